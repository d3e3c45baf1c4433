"""Asynchronous rounds: the server steps whenever some nodes have answered. Here in one process, in simulated time.

A node whose answer is in a step is given the new model at once; the others work on with the model that they have.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hierfed.data.federation import Node, row_counts
from hierfed.engines.in_process import FinishedRound
from hierfed.engines.replies import template
from hierfed.engines.rounds import PLAIN, Lateness, Round
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, DatedSums, SharedModel, SteeredMethod, SumMethod, ordered_sum
from hierfed.federated.method import Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.recorded import RecordedStep
from hierfed.federated.remembered import beside, of_method, of_steps
from hierfed.federated.speeds import Asked
from hierfed.federated.stage import RATING
from hierfed.federated.steps import Known, arrive, send
from hierfed.observer import SILENT, Observer


class LateSums:
    """The server's memory in asynchronous rounds: the last sum of each node, and the model that it was made with.

    A sum that can only be added is one over all nodes: a node's last sum replaces its former one, so an old answer is
    no bias. Source: incremental EM, Neal and Hinton, A view of the EM algorithm that justifies incremental, sparse, and
    other variants, 1998.

    Where a method's arrays may be averaged, the total is made of the answers since the last step; late ones are weighed
    down. Source: FedBuff, Nguyen et al., AISTATS 2022, arXiv:2106.06639. With one answer a step it is FedAsync, Xie et
    al., 2019, arXiv:1903.03934, which moves by changes here, and not towards the node's model.
    """

    def __init__(self, method: SumMethod, late: Lateness):
        self._method, self._late = method, late
        self._last = dict[int, tuple[Contribution, SharedModel]]()
        self._fresh = list[int]()

    def begin(self, sent: Mapping[int, Contribution], made_with: SharedModel) -> None:
        """Begin with the sums of a round of everybody, by place, which are in its total."""
        self._last = {place: (each, made_with) for place, each in sent.items()}

    def take(self, place: int, sent: Contribution, made_with: SharedModel) -> None:
        """Take the answer of the node at this place, in place of its former one."""
        self._last[place] = sent, made_with
        self._fresh.append(place)

    def forget(self, places: Iterable[int]) -> None:
        """Leave out what these nodes have sent."""
        for place in places:
            self._last.pop(place, None)

    def total(self, now: SharedModel) -> Contribution:
        """The total of a step from the model `now`, in the order of the nodes' places. The next one begins.

        Sums of former opening rounds are of other things, and no part of it.
        """
        fresh = self._late.averaged or now.round < self._late.of_everybody
        places, self._fresh = sorted(self._fresh if fresh else self._last), []
        return ordered_sum(self._present(*self._last[place], now) for place in places)

    def _present(self, sent: Contribution, made_with: SharedModel, now: SharedModel) -> Contribution:
        if self._late.averaged:
            return self._late.weighed(sent, now.round - made_with.round)
        return self._method.brought(sent, made_with, now) if isinstance(self._method, DatedSums) else sent


@dataclass(frozen=True)
class Turn:
    """The nodes of a step, by place; see RecordedStep."""

    answered: Sequence[int]
    refused: Sequence[int] = ()
    summed: bool = True


class Order(Protocol):
    """Decides who answers when. clock: simulated time; 0 where none is."""

    clock: float

    def in_time(self, idle: Sequence[int]) -> Sequence[int]:
        """The nodes of a steering round, among those that have nothing to do."""
        ...

    def ask(self, place: int) -> None:
        """A node is given a model."""
        ...

    def turn(self, wanted: int) -> Turn:
        """The next step; wanted: the number of answers that it waits for."""
        ...


@dataclass
class SimulatedOrder:
    """The order of simulated speeds.

    due: the time and the place of every answer that is to come. answered: how often each has. first: until its first.
    """

    late: Lateness
    nodes: Sequence[Node]
    clock: float = 0.0
    due: list[tuple[float, int]] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)

    def in_time(self, idle: Sequence[int]) -> Sequence[int]:
        """See Order."""
        return self.late.in_time(self.first)

    def ask(self, place: int) -> None:
        """See Order."""
        asked = Asked(self.late.seed, self.answered.get(place, 0), self.nodes[place].number, len(self.nodes))
        taken = self.late.speed(asked)
        self.first.setdefault(place, taken)
        heapq.heappush(self.due, (self.clock + taken, place))

    def turn(self, wanted: int) -> Turn:
        """See Order."""
        arrived = []
        for _ in range(wanted):
            self.clock, place = heapq.heappop(self.due)
            self.answered[place] = self.answered.get(place, 0) + 1
            arrived.append(place)
        return Turn(arrived)


class RecordedOrder:
    """The order of an earlier training, of real nodes, whose speeds nobody knows. Raises HierfedError for others."""

    clock = 0.0

    def __init__(self, steps: Sequence[RecordedStep], nodes: Sequence[Node]):
        self._steps, self._places = iter(steps), {node.name: place for place, node in enumerate(nodes)}

    def in_time(self, idle: Sequence[int]) -> Sequence[int]:
        """See Order: the ledger names everybody, and says who was asked."""
        return idle

    def ask(self, place: int) -> None:
        """See Order."""

    def turn(self, wanted: int) -> Turn:
        """See Order."""
        step = next(self._steps, None)
        if step is None:
            raise HierfedError("the ledger to repeat has fewer rounds than this run: give it the settings beside it")
        if not step.summed:
            return Turn((), summed=False)
        unknown = sorted({*step.answered, *step.refused} - self._places.keys())
        if unknown:
            raise HierfedError(f"the ledger to repeat names a node '{unknown[0]}', which this run has not")
        refused = [self._places[name] for name in step.refused if name not in step.answered]
        return Turn([self._places[name] for name in step.answered], refused)


def run_asynchronous(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    how: Round = PLAIN,
    observer: Observer = SILENT,
    stage: str = RATING,
) -> Trained:
    """Train the shared model until it has made this many steps; see hierfed.engines.in_process.run_rounds.

    Opening rounds are of everybody, but for those that only steer: they are of the nodes that are in time; see
    Lateness.in_time. The first step of sums that can only be added is of everybody too; see LateSums. The nodes of a
    step are told to the observer in the order of their answers, which decides all: equal orders give equal bits.
    """
    late, rows, steps, everybody = how.lateness, row_counts(nodes), how.steps, range(len(nodes))
    shared, private = method.start(), list[PrivateState | None]([None] * len(nodes))
    given, sums = dict[int, SharedModel](), LateSums(method, late)
    recorded = late.recorded
    order: Order = SimulatedOrder(late, nodes) if recorded is None else RecordedOrder(recorded, nodes)
    bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    idle: Sequence[int] = everybody
    steering = method.steering_rounds if isinstance(method, SteeredMethod) else range(0)
    while shared.round < rounds and (shared.round < 1 or observer.should_continue()):
        steers = shared.round + 1 in steering
        asked = order.in_time(idle) if steers else idle
        rest = [place for place in idle if place not in asked]
        for place in asked:
            given[place] = shared
            order.ask(place)
        bytes_down += shared.nbytes * len(asked)
        observer.share(shared.round + 1, 0.0)
        turn = order.turn(len(asked) if steers else late.wanted(shared, len(nodes)))
        if not turn.summed:
            sums.forget(everybody)
            private, idle = [None] * len(nodes), everybody
            continue
        sums.forget(turn.refused)
        for place in turn.refused:
            private[place] = None
        for done, place in enumerate(turn.answered, 1):
            old = given.pop(place)
            known = Known.of(method, old, steps)
            before, number = private[place], nodes[place].number
            contribution, state = next(iter(method.contribute(old, [nodes[place]], [of_method(before)])))
            message, remembered = send(steps, contribution, known, number, of_steps(before))
            private[place], arrived = beside(state, remembered), message
            if any(step.single for step in steps):
                arrived = arrive(steps, message, template(method, old, steps), old.round + 1, number)
            sums.take(place, arrived, old)
            bytes_up += message.nbytes
            observer.share(shared.round + 1, done / len(turn.answered))
        total = sums.total(shared)
        shared, idle = method.combine(shared, total), [*turn.answered, *turn.refused, *rest]
        observer.summed(stage, total, shared, np.array([nodes[place].number for place in turn.answered]))
        if shared.round > 0:
            seconds, learned_from = time.perf_counter() - began, int(rows[list(turn.answered)].sum())
            costs = learned_from, bytes_up, bytes_down, seconds, order.clock
            on_round(FinishedRound(shared.round, shared, total, *costs))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, [of_method(state) for state in private])
