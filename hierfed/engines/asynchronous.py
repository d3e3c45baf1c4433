"""Asynchronous rounds in one process, in simulated time: the server steps whenever some nodes have answered.

A node whose answer is in a step is given the new model at once; the others work on with the model that they have.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hierfed.data.federation import Node, row_counts
from hierfed.engines.in_process import FinishedRound
from hierfed.engines.replies import template
from hierfed.engines.rounds import PLAIN, Lateness, Round
from hierfed.federated.contract import Contribution, DatedSums, SharedModel, SumMethod, ordered_sum
from hierfed.federated.method import Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.remembered import beside, of_method, of_steps
from hierfed.federated.speeds import Asked
from hierfed.federated.stage import RATING
from hierfed.federated.steps import Known, arrive, send
from hierfed.observer import SILENT, Observer


@dataclass
class _Work:
    """The nodes at work.

    given: the model that each works with. due: the time and the place of every answer that is to come.
    answered: the number of each node's answers so far.
    """

    given: dict[int, SharedModel] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)


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

    A sum that can only be added is one over all nodes: a node's last sum replaces its former one, so an old answer is
    no bias, and the first step waits for everybody. Source: incremental EM, Neal and Hinton, A view of the EM algorithm
    that justifies incremental, sparse, and other variants, 1998.

    Where a method's arrays may be averaged, the step is made of the answers that have come; late ones are weighed down.
    Source: FedBuff, Nguyen et al., AISTATS 2022, arXiv:2106.06639. With one answer a step it is FedAsync, Xie et al.,
    2019, arXiv:1903.03934, which moves by changes here, and not towards the node's model.

    Opening rounds are of everybody. The nodes of a step are told to the observer in the order of their answers, which
    decides all: equal orders give equal bits.
    """
    late, rows, steps = how.lateness, row_counts(nodes), how.steps
    shared, private = method.start(), list[PrivateState | None]([None] * len(nodes))
    work, last = _Work(answered=[0] * len(nodes)), dict[int, Contribution]()
    made_with: dict[int, SharedModel] = {}
    clock, idle, bytes_up, bytes_down, began = 0.0, list(range(len(nodes))), 0, 0, time.perf_counter()
    while shared.round < rounds and (shared.round < 1 or observer.should_continue()):
        for place in idle:
            work.given[place] = shared
            asked = Asked(late.seed, work.answered[place], nodes[place].number, len(nodes))
            heapq.heappush(work.due, (clock + late.speed(asked), place))
        bytes_down += shared.nbytes * len(idle)
        wanted = late.wanted(shared, len(nodes))
        observer.share(shared.round + 1, 0.0)
        arrived, stale = list[int](), dict[int, int]()
        while len(arrived) < wanted:
            clock, place = heapq.heappop(work.due)
            old = work.given.pop(place)
            known = Known.of(method, old, steps)
            before, number = private[place], nodes[place].number
            contribution, state = next(iter(method.contribute(old, [nodes[place]], [of_method(before)])))
            message, remembered = send(steps, contribution, known, number, of_steps(before))
            private[place], last[place] = beside(state, remembered), message
            made_with[place] = old
            if any(step.single for step in steps):
                last[place] = arrive(steps, message, template(method, old, steps), old.round + 1, number)
            bytes_up += message.nbytes
            work.answered[place] += 1
            stale[place] = shared.round - old.round
            arrived.append(place)
            observer.share(shared.round + 1, len(arrived) / wanted)
        if isinstance(method, DatedSums) and not late.averaged:
            now = {place: method.brought(last[place], made_with[place], shared) for place in last}
        else:
            now = last
        total = _total(now, stale, late)
        shared, idle = method.combine(shared, total), arrived
        observer.summed(stage, total, shared, np.array([nodes[place].number for place in arrived]))
        if shared.round > 0:
            seconds, learned_from = time.perf_counter() - began, int(rows[arrived].sum())
            on_round(FinishedRound(shared.round, shared, total, learned_from, bytes_up, bytes_down, seconds, clock))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, [of_method(state) for state in private])


def _total(last: dict[int, Contribution], stale: dict[int, int], late: Lateness) -> Contribution:
    """The total of a step. last: each node's last answer. stale: the steps by which each new answer is late."""
    if not late.averaged:
        return ordered_sum(last[place] for place in sorted(last))
    return ordered_sum(late.weighed(last[place], stale[place]) for place in sorted(stale))
