"""The sum of an edge as it travels: the exact sum of its nodes' contributions, who is in it, and who was left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hierfed.engines.exchange import REFUSAL, Fact, Reply
from hierfed.engines.replies import Look, NodeAnswer, Refusal, RoundName, other_round
from hierfed.federated.contract import Contribution
from hierfed.federated.exact_sum import ExactTotal
from hierfed.plain_text import printable

CONTRIBUTORS, LEFT_OUT = "contributors", "left_out"

Behind = Callable[[str], Mapping[int, str] | None]
"""Gives the names of the nodes behind the member of this name, by their numbers; None for one that is a node itself."""


def nobody_behind(name: str) -> None:
    """The Behind of a federation without edges."""


@dataclass(frozen=True)
class EdgeSum:
    """The sum of an edge. numbers: of the nodes in it. nbytes: as it was sent."""

    edge: str
    numbers: tuple[int, ...]
    total: ExactTotal
    nbytes: int


def edge_reply(asked: RoundName, total: ExactTotal, numbers: Collection[int], left_out: Mapping[int, str]) -> Reply:
    """An edge's answer to a round.

    numbers: of the nodes in the total. left_out: the reasons against the contributions of others, by number.
    """
    facts: dict[str, Fact] = {
        CONTRIBUTORS: json.dumps(sorted(numbers)).encode(),
        LEFT_OUT: json.dumps(sorted(left_out.items())).encode(),
    }
    return Reply({**asked.facts(), **facts}, total.sent())


def accept_sums(
    answers: Iterable[NodeAnswer],
    asked: RoundName,
    expected: Contribution,
    behind: Behind,
    taken: Collection[int],
    look: Look,
) -> tuple[list[EdgeSum], list[Refusal]]:
    """The sums of edges that enter a round's total, and what is refused: sums, and contributions within them.

    expected: a contribution with the arrays that every node's must have. taken: the numbers of nodes whose
    contributions are in the total already. look: checks a total; see Look.
    """
    sums, refused, known = list[EdgeSum](), list[Refusal](), set(taken)
    for answer in answers:
        try:
            found, left_out = _read(answer, asked, expected, behind(answer.name) or {})
            if known.intersection(found.numbers):
                raise ValueError(f"holds the contribution of node {min(known.intersection(found.numbers))} again")
            reason = look(found.total.rounded())
            if reason:
                raise ValueError(reason)
        except (ValueError, TypeError) as error:
            refused.append(Refusal(answer.name, printable(error)))
            continue
        known.update(found.numbers)
        sums.append(found)
        refused += left_out
    return sums, refused


def _read(
    answer: NodeAnswer, asked: RoundName, expected: Contribution, nodes: Mapping[int, str]
) -> tuple[EdgeSum, Sequence[Refusal]]:
    """An edge's sum, and its nodes that are not in it; raises ValueError with the reason against it."""
    if answer.reply is None:
        raise ValueError(f"failed: {answer.error}")
    if REFUSAL in answer.reply.facts:
        raise ValueError(f"takes no part: {printable(answer.reply.facts[REFUSAL])}")
    reason = other_round(answer.reply, asked)
    if reason:
        raise ValueError(reason)
    numbers = tuple(int(number) for number in _json(answer.reply, CONTRIBUTORS))
    if not numbers or len(set(numbers)) < len(numbers) or not nodes.keys() >= set(numbers):
        raise ValueError(f"its sum is of nodes {printable(numbers, 80)}, which are not those behind it, each once")
    left_out = {int(number): str(told) for number, told in _json(answer.reply, LEFT_OUT)}
    strange = left_out.keys() - (nodes.keys() - set(numbers))
    if strange:
        raise ValueError(f"leaves out node {min(strange)}, which is in its sum, or not behind it")
    sent = answer.reply.contribution
    found = EdgeSum(answer.name, numbers, ExactTotal.arrived(sent, expected), sent.nbytes)
    return found, [Refusal(nodes[number], printable(told)) for number, told in left_out.items()]


def _json(reply: Reply, name: str) -> list[Any]:
    value = reply.facts.get(name)
    found = json.loads(value) if isinstance(value, bytes) else None
    if not isinstance(found, list):
        raise ValueError(f"its '{name}' cannot be read")
    return found
