"""A node that lies is refused by name in every round, and the others finish; or the round before is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierfed.engines.exchange import Reply, Request
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution

NAMES = ("node 1", "node 2", "node 10")
LIAR = "node 10"

Lie = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def everywhere(value: float) -> Lie:
    return lambda arrays: {name: torch.full_like(array, value) for name, array in arrays.items()}


def one_cell(value: float) -> Lie:
    def lie(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: array.clone() for name, array in arrays.items()}
        for array in found.values():
            array.view(-1)[:1] = value
        return found

    return lie


def times(factor: float) -> Lie:
    return lambda arrays: {name: array * factor for name, array in arrays.items()}


def lies(side: Any, lie: Lie, kind: str = "round", when: Callable[[Request], bool] = lambda request: True) -> None:
    """Let a node lie in its answers of this kind."""
    honest = side.answer

    def answer(request: Request) -> Reply:
        reply = honest(request)
        if request.kind != kind or not reply.contribution.arrays or not when(request):
            return reply
        return replace(reply, contribution=Contribution(lie(reply.contribution.arrays)))

    side.answer = answer


LIES = {
    "-1 everywhere": everywhere(-1.0),
    "1e308 in one cell": one_cell(1e308),
    "1e30 everywhere": everywhere(1e30),
    "not a number": one_cell(math.nan),
    "negated": times(-1.0),
}


@pytest.mark.parametrize("preset", ["item_biases", "network", "hierarchical"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_node_that_sends_nonsense_in_every_round_is_refused_by_name_in_each(preset, lie, village, make_settings):
    found = village(make_settings(preset))
    found.start(*NAMES)
    lies(found.sides[LIAR], lie)
    found.serve(quorum=2, nodes=3)
    for record in found.records:
        # A sum of deviations from the mean may have any sign: such a lie is bounded, and nobody could see it.
        blind = preset == "item_biases" and record.round == 1 and lie in (LIES["negated"], LIES["-1 everywhere"])
        assert not record.abandoned
        assert ([each.node for each in record.refused], record.contributors) == (
            ([], list(NAMES)) if blind else ([LIAR], ["node 1", "node 2"])
        ), (record.stage, record.round, record.refused)
    assert not any(side.__dict__.get("failure") for side in found.sides.values())


def test_more_users_or_ratings_than_there_were_are_refused(village, make_settings):
    found = village(make_settings("hierarchical"))
    found.start(*NAMES)
    lies(found.sides[LIAR], times(1e6), when=lambda request: request.facts["round"] >= 1)
    found.serve(quorum=2, nodes=3)
    late = [record for record in found.records if record.round >= 1]
    assert late
    assert all([each.node for each in record.refused] == [LIAR] for record in late)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda arrays: {"rows": torch.full((1,), math.nan).double()}, "it holds other arrays than were asked for"),
        (lambda arrays: {**arrays, "rows": arrays["rows"].repeat(2)}, "it holds other arrays than were asked for"),
        (lambda arrays: {**arrays, "squares_after": -arrays["squares_after"]}, "squares_after are below 0"),
        (lambda arrays: {**arrays, "within": arrays["intervals"] + 1}, "within are beyond what ratings can give"),
        (lambda arrays: {**arrays, "rows": arrays["rows"] + 0.5}, "rows are counts"),
        (lambda arrays: {**arrays, "squares_before": arrays["rows"] * 1e9}, "squares_before are beyond"),
    ],
)
def test_a_wrong_answer_to_judge_is_left_out_and_told_and_the_result_is_that_of_the_others(
    lie, told, village, make_settings
):
    found = village(make_settings("item_biases"))
    found.start(*NAMES)
    lies(found.sides[LIAR], lie, kind="judge")
    result = found.serve(quorum=2, nodes=3)
    assert any(event.startswith(f"the gain leaves out {LIAR}: {told}") for event in found.events), found.events
    assert result.federation.gain is not None
    assert result.federation.gain.rows == sum(len(found.data.rows(name, True)) for name in NAMES[:2])


def test_a_sum_from_which_no_model_follows_abandons_the_round_and_an_honest_start_goes_on(
    village, make_settings, monkeypatch
):
    """What the checks let through, and no server can solve: the checkpoint keeps the model before."""
    from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors

    found = village(make_settings("hierarchical"))
    found.start(*NAMES)
    with monkeypatch.context() as blind:
        blind.setattr(HierarchicalFactors, "checks", lambda self, shared: ())
        for name in NAMES:
            lies(found.sides[name], everywhere(-1.0), when=lambda request: request.facts["round"] == 2)
        with pytest.raises(HierfedError, match=r"round 2 of 'rating' was abandoned 5 times: the sum gives no model"):
            found.serve(quorum=2, nodes=3)
    assert found.models()["rating"].round == 1
    before = found.models()["rating"].digest()
    found.records.clear()
    found.start(*NAMES)
    found.serve(quorum=2, nodes=3)
    rating = [record.round for record in found.records if record.stage == "rating"]
    assert rating == [2, 3, 4]
    assert found.models()["rating"].digest() != before


def test_an_open_sum_that_one_node_spoils_names_it(village, make_settings, monkeypatch):
    from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors

    found = village(make_settings("hierarchical"))
    found.start(*NAMES)
    monkeypatch.setattr(HierarchicalFactors, "checks", lambda self, shared: ())
    lies(found.sides[LIAR], everywhere(-1e6), when=lambda request: request.facts["round"] == 2)
    with pytest.raises(HierfedError, match="was abandoned 5 times"):
        found.serve(quorum=2, nodes=3)
    assert {each.node for each in found.records[-1].refused} == {LIAR}


@pytest.mark.parametrize("arrays", ["singular", "infinite", "of another shape"])
def test_a_node_refuses_a_model_that_it_cannot_use_and_stays(arrays, village, make_settings):
    """An honest node answers a server that lies, in one line, and goes on."""
    found = village(make_settings("hierarchical"))
    found.start(*NAMES)
    side, honest, answers = found.sides[LIAR], found.sides[LIAR].answer, []

    def answer(request: Request) -> Reply:
        if request.kind != "round" or request.facts["round"] != 2 or request.facts["stage"] != "rating" or answers:
            return honest(request)
        spread = request.arrays["user_spread"]
        wrong = {"singular": -spread, "infinite": spread * math.inf, "of another shape": spread[:2]}[arrays]
        answers.append(honest(replace(request, arrays={**request.arrays, "user_spread": wrong})))
        return answers[0]

    side.answer = answer
    found.serve(quorum=2, nodes=3)
    (reply,) = answers
    assert reply.facts["refusal"].startswith("cannot use the server's model of rating, round 1: ")
    assert not reply.contribution.arrays
    (record,) = [each for each in found.records if each.stage == "rating" and each.round == 2]
    assert [each.node for each in record.refused] == [LIAR]
    assert "failure" not in side.__dict__
