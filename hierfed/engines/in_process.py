"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hierfed.data.federation import Node, Nodes, row_counts
from hierfed.federated.contract import Contribution, PooledMethod, SharedModel, SumMethod
from hierfed.federated.participation import EVERYONE, Participation
from hierfed.federated.private import PrivateState
from hierfed.federated.summation import Summation, Summed, sum_openly

# From so many nodes on they are added up together where the method can: an object and a sum for each would cost more
# than their arithmetic. A part of a federation is not, since what nodes keep then lies at their numbers.
POOLED_FROM = 256

OnShare = Callable[[int, float], None]
"""Is told, as a round goes on, its number and what share of its nodes' ratings has been added up; 0 as it begins."""


def untold(number: int, share: float) -> None:
    """The OnShare of those who do not ask."""


@dataclass(frozen=True)
class FinishedRound:
    """What the server holds as a round ends, and what the round cost.

    total: the sum of the contributions. rows: the train ratings of the nodes that took part. bytes_up, bytes_down: sent
    by all nodes, and to all nodes. seconds: wall time. What opening rounds cost, in bytes and seconds, is in round 1.
    """

    number: int
    shared: SharedModel
    total: Contribution
    rows: int
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
    wanted: Callable[[], bool] = lambda: True,
    on_share: OnShare = untold,
) -> Trained:
    """Train the shared model over the nodes for this many rounds; on_round is called as each one ends.

    wanted: asked before every round but the first whether to go on; where not, training ends with the rounds that there
    are. on_share: see OnShare.
    """
    shared = method.start()
    pooled = method if isinstance(method, PooledMethod) and summation is sum_openly else None
    many = nodes if isinstance(nodes, Nodes) and len(nodes) >= POOLED_FROM and nodes.complete else None
    private: Sequence[PrivateState | None] = [None] * len(nodes)
    rows, bytes_up, bytes_down = row_counts(nodes), 0, 0
    began = time.perf_counter()
    while shared.round < rounds and (shared.round < 1 or wanted()):
        places = participation.places(shared.round + 1, len(nodes))
        on_done = partial(on_share, shared.round + 1)
        on_done(0.0)
        if pooled is not None and many is not None:
            total, private = pooled.contribute_pooled(shared, many.take(places), private, on_done)
            summed = Summed(total, total.nbytes * len(places))
        else:
            summed, private = _sum_one_by_one(method, shared, nodes, places, private, summation, on_done)
        bytes_up += summed.bytes_up
        bytes_down += shared.nbytes * len(places) + summed.bytes_down
        shared = method.combine(shared, summed.total)
        if shared.round > 0:
            seconds, taking_part = time.perf_counter() - began, int(rows[places].sum())
            on_round(FinishedRound(shared.round, shared, summed.total, taking_part, bytes_up, bytes_down, seconds))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, private)


def _sum_one_by_one(
    method: SumMethod,
    shared: SharedModel,
    nodes: Sequence[Node],
    places: np.ndarray,
    private: Sequence[PrivateState | None],
    summation: Summation,
    on_done: Callable[[float], None],
) -> tuple[Summed, Sequence[PrivateState | None]]:
    """The sum of what the nodes at these places send, and what all nodes keep.

    on_done: told what share of the nodes' ratings is in the sum.
    """
    present = [nodes[place] for place in places]
    before, kept = [private[place] for place in places], list(private)
    passed = row_counts(present).cumsum()

    def passing() -> Iterator[tuple[int, Contribution]]:
        pairs = method.contribute(shared, present, before)
        for place, node, rows, (contribution, state) in zip(places, present, passed, pairs, strict=True):
            kept[place] = state
            on_done(float(rows / max(passed[-1], 1)))
            yield node.number, contribution

    return summation(passing()), kept
