"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hierfed.data.federation import Node, Nodes
from hierfed.federated.contract import Contribution, PooledMethod, SharedModel, SumMethod
from hierfed.federated.participation import EVERYONE, Participation
from hierfed.federated.summation import Summation, Summed, sum_openly
from hierfed.personal.private import PrivateState

# From so many nodes on they are added up together where the method can: an object and a sum for each would cost more
# than their arithmetic.
POOLED_FROM = 256


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
    private: Sequence[PrivateState | None]


def run_rounds(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    summation: Summation = sum_openly,
    participation: Participation = EVERYONE,
) -> Trained:
    """Train the shared model over the nodes for this many rounds; on_round is called as each one ends."""
    shared = method.start()
    pooled = method if isinstance(method, PooledMethod) and summation is sum_openly else None
    private: Sequence[PrivateState | None] = [None] * len(nodes)
    bytes_up = bytes_down = 0
    began = time.perf_counter()
    while shared.round < rounds:
        places = participation.places(shared.round + 1, len(nodes))
        if pooled is not None and isinstance(nodes, Nodes) and len(nodes) >= POOLED_FROM:
            total, private = pooled.contribute_pooled(shared, nodes.take(places), private)
            summed = Summed(total, total.nbytes * len(places))
        else:
            summed, private = _sum_one_by_one(method, shared, nodes, places, private, summation)
        bytes_up += summed.bytes_up
        bytes_down += shared.nbytes * len(places) + summed.bytes_down
        shared = method.combine(shared, summed.total)
        if shared.round > 0:
            seconds = time.perf_counter() - began
            on_round(FinishedRound(shared.round, shared, summed.total, bytes_up, bytes_down, seconds))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, private)


def _sum_one_by_one(
    method: SumMethod,
    shared: SharedModel,
    nodes: Sequence[Node],
    places: np.ndarray,
    private: Sequence[PrivateState | None],
    summation: Summation,
) -> tuple[Summed, Sequence[PrivateState | None]]:
    """The sum of what the nodes at these places send, and what all nodes keep."""
    present = [nodes[place] for place in places]
    before, kept = [private[place] for place in places], list(private)

    def passing() -> Iterator[tuple[int, Contribution]]:
        pairs = method.contribute(shared, present, before)
        for place, node, (contribution, state) in zip(places, present, pairs, strict=True):
            kept[place] = state
            yield node.number, contribution

    return summation(passing()), kept
