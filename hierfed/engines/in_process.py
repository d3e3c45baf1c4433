"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hierfed.data.federation import Node
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.summation import Summation, sum_openly
from hierfed.personal.private import PrivateState


@dataclass(frozen=True)
class FinishedRound:
    """What the server holds as a round ends, and what the round cost.

    total: the sum of the contributions. bytes_up, bytes_down: sent by all nodes, and to all nodes. seconds: wall time.
    What opening rounds cost is in round 1.
    """

    number: int
    shared: SharedModel
    total: Contribution
    bytes_up: int
    bytes_down: int
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A finished training: the shared model, and what each node kept, in the order of the nodes."""

    shared: SharedModel
    private: list[PrivateState | None]


def run_rounds(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    summation: Summation = sum_openly,
) -> Trained:
    """Train the shared model over all nodes for this many rounds; on_round is called as each one ends."""
    shared = method.start()
    private: list[PrivateState | None] = [None] * len(nodes)
    bytes_up = bytes_down = 0
    began = time.perf_counter()
    while shared.round < rounds:
        kept: list[PrivateState | None] = []
        summed = summation(_keeping(nodes, method.contribute(shared, nodes, private), kept))
        bytes_up += summed.bytes_up
        bytes_down += shared.nbytes * len(nodes) + summed.bytes_down
        private, shared = kept, method.combine(shared, summed.total)
        if shared.round > 0:
            seconds = time.perf_counter() - began
            on_round(FinishedRound(shared.round, shared, summed.total, bytes_up, bytes_down, seconds))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, private)


def _keeping(
    nodes: Sequence[Node], pairs: Iterator[tuple[Contribution, PrivateState | None]], kept: list[PrivateState | None]
) -> Iterator[tuple[int, Contribution]]:
    """The contributions with their nodes' numbers; what each node keeps is set aside as they pass."""
    for node, (contribution, state) in zip(nodes, pairs, strict=True):
        kept.append(state)
        yield node.number, contribution
