"""Under secure sums, one node of six that spoils every sum is found by halves, put out and told; nobody else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from hierfed.deployment.policy import Policy
from hierfed.engines.exchange import Request
from hierfed.engines.secure_round import HALVING
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import Contribution
from hierfed.federated.halves import LEAST_HALF, Search, halvings
from hierfed.settings import load_settings
from tests.attacks.test_lies import everywhere

NAMES = [f"node {number}" for number in range(1, 7)]
HALVED: dict[str, Any] = {"secure_sums": True, "scale": [0.5, 5.0], "nodes": 6, "rank_items": False, "halves": True}


def lies_under_its_mask(side: Any, lie: Callable, when: Callable[[Request], bool] = lambda request: True) -> None:
    """Let a node add a lie to secure sums, past its own look at what it sends."""
    setup = side._joined

    def joined(plan, number):
        secure = setup(plan, number)
        begin = secure.begin

        def begin_with_a_lie(request: Request, contribution: Contribution):
            if request.kind != "round" or not when(request):
                return begin(request, contribution)
            return begin(request, replace(contribution, arrays=lie(contribution.arrays)))

        secure.begin = begin_with_a_lie
        return secure

    side._joined = joined


@pytest.fixture
def six(data, tmp_path: Path, village):
    """Six nodes with the ratings of the village's users, under these settings."""
    table = data.table.with_columns(("node " + (pl.col("user") % 6 + 1).cast(pl.String)).alias("node"))
    found = replace(data, place=tmp_path, table=table)
    for name in NAMES:
        for held in (False, True):
            own = table.filter((pl.col("node") == name) & (pl.col("held") == held))
            own.select("user", "item", "rating").write_parquet(found.file(name, held))

    def make(settings):
        made = village(settings)
        for side in made.sides.values():
            side.state.close()
        made.sides.clear()
        made.data = found
        made.start(*NAMES)
        return made

    return make


def refusals(made) -> set[str]:
    return {name for name, side in made.sides.items() if "failure" in side.__dict__}


@pytest.mark.parametrize(("preset", "liar"), [("network", "node 3"), ("hierarchical", "node 6")])
def test_a_node_that_spoils_every_sum_is_found_put_out_and_told(preset, liar, six, make_settings):
    made = six(make_settings(preset, **{**HALVED, "rounds": 3}))
    lies_under_its_mask(made.sides[liar], everywhere(-1e4))
    result = made.serve(quorum=2, nodes=6)
    assert refusals(made) == {liar}
    assert "every sum that it is in is beyond" in str(made.sides[liar].failure)
    assert any(event.startswith(f"node {liar} is refused: it was put out") for event in made.events)
    rounds = result.federation.rounds
    assert sum(each.abandoned for each in rounds) == 2
    halved = [each for each in rounds if len(each.contributors) == 3]
    assert 1 <= len(halved) <= 3
    assert all(liar not in each.contributors for each in halved)
    assert rounds[-1].contributors == [name for name in NAMES if name != liar]
    assert not any("does not countersign" in event for event in made.events)


def test_an_honest_federation_has_no_halves_and_the_digest_of_one_without_the_setting(six, make_settings):
    digests = []
    for halves in (True, False):
        made = six(make_settings("item_biases", **{**HALVED, "halves": halves}))
        digests.append(made.serve(quorum=2, nodes=6).digest)
        assert all(len(each.contributors) == 6 and not each.abandoned for each in made.records)
        assert not refusals(made)
    assert len(set(digests)) == 1


def test_two_liars_end_the_federation_with_a_clear_word_and_nobody_is_accused(six, make_settings):
    settings = make_settings("network", **HALVED)
    ((left, right), *_) = halvings(6, settings.seed)
    made = six(settings)
    for number in (left[0], right[0]):
        lies_under_its_mask(made.sides[NAMES[number]], everywhere(-1e4))
    with pytest.raises(HierfedError, match="was abandoned 5 times"):
        made.serve(quorum=2, nodes=6)
    assert any("more than one spoils sums" in event for event in made.events)
    assert not any("put out" in event for event in made.events)


def test_a_node_that_was_put_out_stays_out_when_the_server_begins_again(six, make_settings):
    made = six(make_settings("network", **{**HALVED, "rounds": 3}))
    lies_under_its_mask(made.sides["node 3"], everywhere(-1e4))

    def stop(record):
        if len(record.contributors) == 5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        made.serve(on_round=stop, quorum=2, nodes=6)
    made.start(*NAMES)
    result = made.serve(quorum=2, nodes=6)
    assert result.federation.rounds[-1].contributors == [name for name in NAMES if name != "node 3"]
    assert "was put out" in str(made.sides["node 3"].failure)


def test_a_node_adds_to_one_halving_of_a_round_and_to_each_halving_once(six, make_settings):
    made = six(make_settings("network", **HALVED))
    side, answers, honest = made.sides["node 1"], [], made.sides["node 1"].answer

    def answer(request: Request):
        if request.kind == "round" and request.facts["round"] == 2 and not answers:
            for halving in (1, 2, 0, 9, -1):
                try:
                    honest(replace(request, facts={**request.facts, HALVING: halving}))
                    answers.append("")
                except HierfedError as error:
                    answers.append(str(error))
        return honest(request)

    side.answer = answer
    made.serve(quorum=2, nodes=6)
    assert answers[0] == ""
    assert all("other halves of round 2" in each for each in answers[1:3])
    assert all("that the plan does not have" in each for each in answers[3:])


def test_a_policy_refuses_halves(make_settings):
    policy, settings = Policy(least_nodes=1, least_raters=1, halves=False), make_settings("network", **HALVED)
    plan = SimpleNamespace(settings=settings, nodes=6, private=False, secure_group=object(), stages=list)
    with pytest.raises(HierfedError, match=r"has privacy.halves, and this node's halves asks for none"):
        policy.check(plan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"halves": True}, "under secure sums alone"),
        ({"halves": True, "secure_sums": True, "nodes": 8, "groups": 2}, "leave federation.groups"),
    ],
)
def test_halves_without_effect_are_refused(changes, reason):
    with pytest.raises(SettingsError, match=reason):
        load_settings("network", changes)


@pytest.mark.parametrize("nodes", [6, 7, 8, 9, 15, 16, 33, 100])
def test_halvings_find_any_node_and_never_give_a_single_one(nodes):
    """Brute force: every node is spelled out, and no linear combination of halves' sums is one node's."""
    found = halvings(nodes, 3)
    assert len(found) == int(np.ceil(np.log2(nodes)))
    for zeros, ones in found:
        assert sorted(zeros + ones) == list(range(nodes))
        assert min(len(zeros), len(ones)) >= max(LEAST_HALF, nodes // 2)
    for liar in range(nodes):
        search = Search(len(found)).after_all(True).after_all(True)
        for pair in found:
            assert search.halving is not None or search.found is not None
            search = search.after_halves([half for half in pair if liar in half])
        assert search.found == liar
    sums = np.array([[node in half for node in range(nodes)] for pair in found for half in pair], float)
    rank = np.linalg.matrix_rank(sums)
    assert all(np.linalg.matrix_rank(np.vstack([sums, one])) == rank + 1 for one in np.eye(nodes))


def test_fewer_than_six_nodes_have_no_halvings_and_no_search():
    assert halvings(5, 0) == ()
    assert Search(0).after_all(True).after_all(True).after_all(True).halving is None


def test_a_half_that_is_not_spoilt_excuses_nobody():
    """A liar that rests in one round is still a suspect in the next."""
    search = Search(3).after_halves([]).after_halves([(0, 1, 2)])
    assert search.suspects == {0, 1, 2}
    assert search.after_halves([(3, 4, 0)]).found == 0
