"""The sum of an edge: what a server makes of it, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from hierfed.engines.edge_sums import accept_sums, edge_reply
from hierfed.engines.exchange import Reply
from hierfed.engines.replies import NodeAnswer, RoundName, finite
from hierfed.federated.contract import Contribution
from hierfed.federated.exact_sum import exact_total

ASKED = RoundName("training", "rating", 3)
BEHIND = {"north": {0: "a", 2: "c", 4: "e"}, "south": {1: "b"}}
NUMBERS = {0: [1.5, -2.0], 2: [0.25, 1e-9], 4: [7.0, 7.0], 1: [1.0, 1.0]}


def of(number: int) -> Contribution:
    return Contribution({"sums": torch.tensor(NUMBERS[number], dtype=torch.float64)})


def sent(*numbers: int, left_out: dict[int, str] | None = None) -> Reply:
    total, _ = exact_total((number, of(number)) for number in numbers)
    return edge_reply(ASKED, total, numbers, left_out or {})


def taken(*answers: tuple[str, Reply | None], before: set[int] | None = None):
    heard = [NodeAnswer(name, -1, reply, "" if reply else "was lost") for name, reply in answers]
    return accept_sums(heard, ASKED, of(0), BEHIND.get, before or set(), finite)


def test_sums_come_as_they_were_with_those_who_are_in_them():
    sums, refused = taken(("north", sent(0, 2, left_out={4: "came\nlate"})), ("south", sent(1)))
    assert [each.numbers for each in sums] == [(0, 2), (1,)]
    assert sums[0].total.rounded().arrays["sums"].tolist() == [1.75, -2.0 + 1e-9]
    assert sums[0].nbytes == 36
    assert [(each.node, each.reason) for each in refused] == [("e", "came late")]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"round": 2}, "an old answer"),
        ({"training": "another"}, "answers training"),
        ({"refusal": "has\nno nodes"}, "takes no part: has no nodes"),
        ({"contributors": b"[]"}, "not those behind it"),
        ({"contributors": b"[0, 0]"}, "not those behind it"),
        ({"contributors": b"[0, 1]"}, "not those behind it"),
        ({"contributors": b"[[0]]"}, "int"),
        ({"contributors": b"{}"}, "cannot be read"),
        ({"contributors": "[0]"}, "cannot be read"),
        ({"contributors": b"["}, "Expecting value"),
        ({"left_out": json.dumps([[1, "is another's"]]).encode()}, "leaves out node 1"),
        ({"left_out": json.dumps([[0, "is in the sum"]]).encode()}, "leaves out node 0"),
        ({"left_out": b"[3]"}, "cannot unpack"),
    ],
)
def test_what_does_not_add_up_is_refused_with_the_edge_named(facts, reason):
    reply = sent(0, 2)
    sums, refused = taken(("north", replace(reply, facts={**reply.facts, **facts})))
    assert sums == []
    assert [each.node for each in refused] == ["north"]
    assert reason in refused[0].reason
    assert "\n" not in refused[0].reason


@pytest.mark.parametrize(
    "arrays",
    [
        {"sums": torch.zeros(35, dtype=torch.uint8)},
        {"sums": torch.zeros(2, dtype=torch.float64)},
        {"others": torch.zeros(36, dtype=torch.uint8)},
        {},
    ],
)
def test_a_sum_of_another_form_is_refused(arrays):
    sums, refused = taken(("north", replace(sent(0), contribution=Contribution(arrays))))
    assert sums == []
    assert "expected" in refused[0].reason


def test_no_contribution_is_in_a_total_twice():
    sums, refused = taken(("south", sent(1)), before={1})
    assert (sums, refused[0].reason) == ([], "holds the contribution of node 1 again")
    sums, refused = taken(("north", sent(0)), ("north", sent(0, 2)))
    assert [each.numbers for each in sums] == [(0,)]
    assert "node 0 again" in refused[0].reason


def test_an_edge_that_is_lost_is_no_sum():
    sums, refused = taken(("north", None))
    assert (sums, refused[0].reason) == ([], "failed: was lost")
