"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hierfed.data.federation import Node
from hierfed.federated.contract import Contribution, SharedModel, SumMethod, ordered_sum
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
) -> Trained:
    """Train the shared model over all nodes for this many rounds; on_round is called as each one ends."""
    shared = method.start()
    private: list[PrivateState | None] = [None] * len(nodes)
    bytes_up = bytes_down = 0
    began = time.perf_counter()
    while shared.round < rounds:
        bytes_down += shared.nbytes * len(nodes)
        collected = _Collector()
        total = ordered_sum(collected.contributions(method.contribute(shared, nodes, private)))
        private, bytes_up = collected.private, bytes_up + collected.bytes
        shared = method.combine(shared, total)
        if shared.round > 0:
            seconds = time.perf_counter() - began
            on_round(FinishedRound(shared.round, shared, total, bytes_up, bytes_down, seconds))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, private)


class _Collector:
    """Sets aside what each node keeps as the contributions pass, and counts the bytes of these."""

    def __init__(self) -> None:
        self.bytes = 0
        self.private: list[PrivateState | None] = []

    def contributions(self, pairs: Iterator[tuple[Contribution, PrivateState | None]]) -> Iterator[Contribution]:
        for contribution, kept in pairs:
            self.bytes += contribution.nbytes
            self.private.append(kept)
            yield contribution
