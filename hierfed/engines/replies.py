"""The checks of the answers to a round: each enters the sum, or is refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.exchange import REFUSAL, Fact, Reply
from hierfed.federated.checks import Sent, first_reason, not_finite
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.steps import Known, Step, arrive, receive, send
from hierfed.plain_text import printable


@dataclass(frozen=True)
class RoundName:
    """The name of a round: its training, its stage and its number."""

    training: str
    stage: str
    number: int

    def facts(self) -> dict[str, Fact]:
        """The name as facts of a message."""
        return {"training": self.training, "stage": self.stage, "round": self.number}


@dataclass(frozen=True)
class NodeAnswer:
    """A node's reply, or the error that came in its place.

    name, number: the node's.
    """

    name: str
    number: int
    reply: Reply | None
    error: str = ""


@dataclass(frozen=True)
class Refusal:
    """An answer that was not used, and the reason."""

    node: str
    reason: str


Look = Callable[[Contribution], str]
"""Gives the reason why a contribution cannot be honest; empty where it can."""


def finite(sent: Contribution) -> str:
    """The check that every number is finite."""
    return not_finite(sent.arrays)


def accept(
    answers: Sequence[NodeAnswer],
    asked: RoundName,
    expected: Contribution,
    steps: Sequence[Step] = (),
    look: Look = finite,
) -> tuple[dict[int, Contribution], list[Refusal]]:
    """The contributions to a sum by their nodes' numbers, ascending, and the refused answers.

    expected: a contribution with the arrays that every node's must have, whatever their values.
    steps: those that changed what was sent; the contributions are as rules add them.
    look: checks a contribution with these arrays.
    """
    accepted: dict[int, Contribution] = {}
    refused = []
    for answer in answers:
        arrived, reason = _arrived(answer, asked, expected, steps, look)
        if not reason and answer.number in accepted:
            reason = "a second answer to the same round"
        if reason:
            refused.append(Refusal(answer.name, reason))
        else:
            accepted[answer.number] = arrived
    return dict(sorted(accepted.items())), refused


def template(method: SumMethod, shared: SharedModel, steps: Sequence[Step] = ()) -> Contribution:
    """A contribution to the next round, from one rating of the first item: it shows the arrays' names and shapes.

    steps: it went through them all but a last one that is undone as contributions arrive.
    """
    rows = Ratings(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32), np.zeros(1, np.int64))
    contribution, _ = next(iter(method.contribute(shared, [Node(0, "probe", rows, rows)], [None])))
    additive = [step for step in steps if not step.single]
    return send(additive, contribution, Known.of(method, shared, steps), 0)[0]


def look_by(method: SumMethod, shared: SharedModel, steps: Sequence[Step] = (), error: float = 0.0) -> Look:
    """The checks of a method on what has arrived, after the server's half of the steps.

    error: of an entry, by an encoding.
    """
    error += sum(step.rounding for step in steps)
    if math.isinf(error):
        return finite
    checks, known = method.checks(shared), Known.of(method, shared, steps)

    def look(sent: Contribution) -> str:
        return finite(sent) or first_reason(checks, Sent(receive(steps, sent, known).arrays, error))

    return look


def _arrived(
    answer: NodeAnswer, asked: RoundName, expected: Contribution, steps: Sequence[Step], look: Look
) -> tuple[Contribution, str]:
    """An answer's contribution as rules add it, or the reason why it cannot be used."""
    if answer.reply is None:
        return expected, f"failed: {answer.error}"
    if REFUSAL in answer.reply.facts:
        return expected, f"takes no part: {printable(answer.reply.facts[REFUSAL])}"
    try:
        arrived = arrive(steps, answer.reply.contribution, expected, asked.number, answer.number)
    except ValueError as error:
        return expected, printable(error)
    return arrived, _reason(answer.reply, answer.number, asked, arrived, expected) or look(arrived)


def _reason(reply: Reply, number: int, asked: RoundName, sent: Contribution, expected: Contribution) -> str:
    """The reason why a reply cannot be used; empty if it can."""
    reason = other_round(reply, asked)
    if reason:
        return reason
    if reply.facts.get("number") != number:
        return f"says that it is node {reply.facts.get('number')!r}, and is node {number}"
    try:
        expected.check_alike(sent)
    except ValueError:
        return f"its arrays are {_shapes(sent)}, expected {_shapes(expected)}"
    return ""


def other_round(reply: Reply, asked: RoundName) -> str:
    """The reason why a reply is no answer to this round; empty if it is."""
    for name, wanted in asked.facts().items():
        told = reply.facts.get(name)
        if told != wanted:
            return f"answers {name} {told!r}, asked was {wanted!r}: an old answer, or one to somebody else"
    return ""


def _shapes(contribution: Contribution) -> str:
    words = contribution.words
    shapes = (f"{name} {tuple(array.shape)}" for name, array in contribution.arrays.items())
    told = ", ".join(shapes) or "none"
    return f"{told} (words of {', '.join(f'{bits} bits: {name}' for name, bits in words.items())})" if words else told
