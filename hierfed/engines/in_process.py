"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hierfed.data.federation import Node
from hierfed.federated.contract import Contribution, Method, SharedModel, ordered_sum


@dataclass(frozen=True)
class FinishedRound:
    """What the server holds as a round ends, and what the round cost.

    bytes_up, bytes_down: sent by all nodes, and to all nodes. seconds: wall time. What a round 0 cost is in round 1.
    """

    number: int
    shared: SharedModel
    train_loss: list[float]
    bytes_up: int
    bytes_down: int
    seconds: float


def run_rounds(
    method: Method, nodes: Sequence[Node], rounds: int, on_round: Callable[[FinishedRound], None]
) -> SharedModel:
    """Train the shared model over all nodes for this many rounds; on_round is called as each one ends."""
    shared = method.start()
    sent, bytes_down, began = _Counter(), 0, time.perf_counter()
    for number in range(method.first_round, rounds + 1):
        bytes_down += shared.nbytes * len(nodes)
        total = ordered_sum(sent.counted(method.contribute(shared, nodes, number)))
        shared = method.combine(shared, total)
        if number > 0:
            seconds = time.perf_counter() - began
            on_round(FinishedRound(number, shared, method.train_loss(total), sent.take(), bytes_down, seconds))
            bytes_down, began = 0, time.perf_counter()
    return shared


class _Counter:
    """Counts the bytes of the contributions that pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def counted(self, contributions: Iterator[Contribution]) -> Iterator[Contribution]:
        for contribution in contributions:
            self.bytes += contribution.nbytes
            yield contribution

    def take(self) -> int:
        taken, self.bytes = self.bytes, 0
        return taken
