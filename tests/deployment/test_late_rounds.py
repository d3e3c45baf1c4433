"""Asynchronous rounds of a federation: whoever is late, lost or refused, one process repeats them from the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import RoundEntry
from hierfed.ledger.replay import Replay
from hierfed.methods import Case, kind_of, prepare
from tests.deployment.conftest import NAMES, Stopped

SLOW, ROUNDS = "node 10", 8


@pytest.fixture
def late(village, make_settings):
    """Makes a village whose server steps after so many answers."""

    def make(preset: str, answers: int, **changes):
        rounds = {} if preset == "item_biases" else {"rounds": ROUNDS}
        few = {"rank_items": False} if preset == "hierarchical" else {}
        return village(make_settings(preset, mode="async", answers=answers, **rounds, **few, **changes))

    return make


def entries(found) -> list[RoundEntry]:
    path = found.server / "ledger.jsonl"
    chain = read_chain(path.read_bytes(), path)
    return [entry for entry in chain.entries if isinstance(entry, RoundEntry) and entry.stage == "rating"]


def repeat(found, data, path: Path | None = None) -> tuple[str, int]:
    """The digest of the same nodes in one process, in the order of the ledger, and how many rounds were compared."""
    settings, nodes, replay = found.settings, data.nodes(), Replay(path or found.server / "ledger.jsonl")
    values = data.table["rating"]
    case = Case(settings, data.catalogue, (float(values.min()), float(values.max())))
    how = round_of(settings).in_order(replay.recorded)
    method = prepare(after_earlier_stages(case, nodes, how)).method
    rounds = kind_of(settings).rounds(settings)
    return run_asynchronous(method, nodes, rounds, how=how, observer=replay).shared.digest(), replay.compared


def in_rounds(name: str, what: str, after: int = 1):
    """Meddles with the requests to a node for rounds of ratings after this one."""

    def meddle(node, kind, facts):
        asked = node == name and kind == "round" and facts["stage"] == "rating" and facts["round"] > after
        return what if asked else ""

    return meddle


@pytest.mark.parametrize(
    ("preset", "changes", "after"),
    [
        ("hierarchical", {}, 1),
        ("network", {}, 0),
        ("network", {}, 1),
        ("network", {"steps": ["top_k"]}, 1),
        ("network", {"steps": ["eden1"]}, 1),
    ],
)
def test_a_node_whose_answers_come_late_is_in_later_steps(preset, changes, after, late, data):
    found = late(preset, 2, **changes)
    result = found.serve(in_rounds(SLOW, "late", after))
    assert repeat(found, data) == (result.digest, len([each for each in entries(found) if each.sum]))
    orders = [each.contributors for each in entries(found) if each.round > 1]
    assert {len(order) for order in orders} == {2}
    assert 0 < sum(SLOW in order for order in orders) < len(orders)
    assert not any("does not countersign" in event for event in found.events)


def test_the_rounds_of_a_method_of_one_sum(late, data):
    found = late("item_biases", 1)
    assert found.serve().digest == repeat(found, data)[0]


def test_a_node_that_answers_no_more_is_not_waited_for_and_its_last_sum_stays(late, data):
    found = late("hierarchical", 2)
    result = found.serve(in_rounds(SLOW, "lost"))
    orders = [sorted(each.contributors) for each in entries(found) if each.round > 1]
    assert orders == [sorted(NAMES[:2])] * (ROUNDS - 1)
    assert result.digest == repeat(found, data)[0]


def test_a_node_that_is_late_in_the_round_of_everybody_enters_later(late, data):
    found = late("hierarchical", 1)

    def meddle(name, kind, facts):
        asked = name == SLOW and kind == "round" and facts["stage"] == "rating" and facts["round"] in (1, 3)
        return "late" if asked else ""

    result = found.serve(meddle, quorum=2)
    first, *others = (each for each in entries(found) if each.round > 0)
    assert SLOW in {each.node for each in first.refused}
    assert any(SLOW in each.contributors for each in others)
    assert result.digest == repeat(found, data)[0]


def test_a_node_that_is_slow_in_the_first_round_turns_no_basis(late, data):
    """It is asked again for what stays in the model, and knows the ledger's lines of the rounds without it."""
    found = late("hierarchical", 1, embedding_rounds=6)
    first = 1 - 8

    def meddle(name, kind, facts):
        counts = name == SLOW and kind == "round" and facts["stage"] == "rating" and facts["round"] == first
        return "late" if counts else ""

    result = found.serve(meddle, quorum=2)
    told = {each.round: each for each in entries(found)}
    for number in range(first + 1, 0):
        assert told[number].contributors == list(NAMES[:2])
        assert SLOW in {each.node for each in told[number].refused}
    assert told[0].contributors == list(NAMES)
    assert told[1].contributors == list(NAMES)
    assert not any("does not countersign" in event for event in found.events)
    assert result.digest == repeat(found, data)[0]


def test_too_few_answers_end_the_training_and_a_server_that_begins_again_asks_everybody(late, data):
    found = late("hierarchical", 3)
    with pytest.raises(HierfedError, match="round 2 of 'rating': 2 of 3 nodes have answered, and none for 25 s"):
        found.serve(in_rounds(SLOW, "lost"))
    found.start(*NAMES)
    result = found.serve()
    assert result.digest == repeat(found, data)[0]


@pytest.mark.parametrize(("preset", "changes"), [("hierarchical", {}), ("network", {"steps": ["top_k"]})])
def test_a_server_that_dies_begins_with_a_round_of_everybody(preset, changes, late, data):
    found = late(preset, 1, **changes)

    def stop(node, kind, facts):
        return "stop" if kind == "round" and facts["stage"] == "rating" and facts["round"] == 5 else ""

    with pytest.raises(Stopped):
        found.serve(stop)
    found.start(*NAMES)
    result = found.serve()
    told = entries(found)
    anew = next(place for place, each in enumerate(told) if each.sum is None)
    assert sorted(each.node for each in told[anew].refused) == sorted(NAMES)
    assert told[anew + 1].contributors == list(NAMES)
    assert {len(each.contributors) for each in told[anew + 2 :]} == {1}
    assert result.digest == repeat(found, data)[0]


def test_a_node_that_lies_is_refused_and_its_sum_is_taken_out(late, data):
    found = late("hierarchical", 2)

    class Lying(found.make_grid):
        def on_reply(self, name, kind, reply):
            from hierfed.engines.exchange import Reply
            from hierfed.engines.flower.records import read_reply, reply_records

            if name == SLOW and kind == "round":
                told = read_reply(reply)
                if told.facts["stage"] == "rating" and told.facts["round"] > 1:
                    reply.content = reply_records(Reply(told.facts, told.contribution * 1e9))
            return reply

    found.make_grid = Lying
    result = found.serve()
    refused = [each for entry in entries(found) for each in entry.refused]
    assert {each.node for each in refused} == {SLOW}
    assert result.digest == repeat(found, data)[0]


def test_a_recorded_training_of_other_nodes_is_refused(late, data, village):
    found = late("hierarchical", 2)
    found.serve()
    other = late("hierarchical", 2)
    other.settings = other.settings.model_copy(
        update={"training": other.settings.training.model_copy(update={"rounds": ROUNDS + 1})}
    )
    with pytest.raises(HierfedError, match="fewer rounds than this run"):
        repeat(other, data, found.server / "ledger.jsonl")
