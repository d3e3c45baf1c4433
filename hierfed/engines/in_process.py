"""All nodes in this process: the engine of a simulation on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hierfed.data.federation import Node, Nodes, numbers_of, row_counts
from hierfed.engines.replies import template
from hierfed.engines.rounds import PLAIN, Round
from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, PooledMethod, SharedModel, SumMethod
from hierfed.federated.method import Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.remembered import beside, of_method, of_steps
from hierfed.federated.rules import OPEN_SUM, Summed, rule_of_round
from hierfed.federated.stage import RATING
from hierfed.federated.steps import Known, arrive, receive, send
from hierfed.observer import SILENT, Observer

# From this number of nodes on, a pooled method adds them up together: an object and a sum for each node would cost more
# than their arithmetic. It needs all nodes of a federation, since it keeps private states at the nodes' numbers. Sums
# that are exact in any order are pooled whatever the number.
POOLED_FROM = 256


@dataclass(frozen=True)
class FinishedRound:
    """The server's state at the end of a round, and the round's costs.

    total: the sum of the contributions.
    rows: the train ratings of the nodes that took part.
    bytes_up, bytes_down: sent by all nodes, and to all nodes.
    seconds: wall time.
    Round 1 includes the bytes and seconds of opening rounds.
    clock: simulated time since the training began; 0 where none is simulated.
    """

    number: int
    shared: SharedModel
    total: Contribution
    rows: int
    bytes_up: int
    bytes_down: int
    seconds: float
    clock: float = 0.0


def run_rounds(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    how: Round = PLAIN,
    observer: Observer = SILENT,
    stage: str = RATING,
    begin: Trained | None = None,
) -> Trained:
    """Train the shared model over the nodes until it has this many rounds.

    on_round: called as each round ends.
    how: the rule, steps and participation of the rounds.
    observer: sees shares and sums; may end the training.
    stage: the name of the training, for the observer.
    begin: a training to go on from; None for a new one.
    """
    shared = method.start() if begin is None else begin.shared
    private: Sequence[PrivateState | None] = [None] * len(nodes) if begin is None else begin.private
    pooled = method if isinstance(method, PooledMethod) and how.rule is OPEN_SUM and not how.steps else None
    enough = len(nodes) >= POOLED_FROM or getattr(method, "exact_sums", False)
    many = nodes if enough and isinstance(nodes, Nodes) and nodes.complete else None
    rows, bytes_up, bytes_down = row_counts(nodes), 0, 0
    began = time.perf_counter()
    while shared.round < rounds and (shared.round < 1 or observer.should_continue()):
        places = how.participation.places(shared.round + 1, len(nodes))
        on_done, known = partial(observer.share, shared.round + 1), Known.of(method, shared, how.steps)
        on_done(0.0)
        if pooled is not None and many is not None:
            taking_part: Sequence[Node] = many.take(places)
            total, private = pooled.contribute_pooled(shared, many.take(places), private, on_done)
            summed = Summed(total, total.nbytes * len(places))
        else:
            taking_part = [nodes[place] for place in places]
            summed, private = _sum_one_by_one(method, known, taking_part, places, private, how, on_done)
        bytes_up += summed.bytes_up
        bytes_down += shared.nbytes * len(places) + summed.bytes_down
        total = receive(how.steps, summed.total, known)
        shared = method.combine(shared, total)
        observer.summed(stage, total, shared, numbers_of(taking_part))
        if shared.round > 0:
            seconds, learned_from = time.perf_counter() - began, int(rows[places].sum())
            on_round(FinishedRound(shared.round, shared, total, learned_from, bytes_up, bytes_down, seconds))
            bytes_up, bytes_down, began = 0, 0, time.perf_counter()
    return Trained(shared, [of_method(state) for state in private] if how.steps else private)


def _sum_one_by_one(
    method: SumMethod,
    known: Known,
    present: Sequence[Node],
    places: np.ndarray,
    private: Sequence[PrivateState | None],
    how: Round,
    on_done: Callable[[float], None],
) -> tuple[Summed, Sequence[PrivateState | None]]:
    """The total of the contributions of the nodes at these places, and the private states of all nodes.

    on_done: called with the share of the nodes' ratings that is in the sum.
    """
    before, kept = [private[place] for place in places], list(private)
    own = [of_method(state) for state in before]
    passed, shared, saved = row_counts(present).cumsum(), known.shared, list[int]()
    single = any(step.single for step in how.steps)
    alike = template(method, shared, how.steps) if single else Contribution({})

    def sent() -> Iterator[tuple[int, Contribution]]:
        pairs = method.contribute(shared, present, own)
        for place, node, rows, last, (contribution, state) in zip(places, present, passed, before, pairs, strict=True):
            on_done(float(rows / max(passed[-1], 1)))
            message, remembered = send(how.steps, contribution, known, node.number, of_steps(last))
            kept[place] = beside(state, remembered)
            arrived = arrive(how.steps, message, alike, shared.round + 1, node.number)
            saved.append(arrived.nbytes - message.nbytes)
            yield node.number, arrived

    summed = rule_of_round(how.rule, method, shared)(sent())
    if not isinstance(summed, Summed):
        raise SettingsError(f"rule: gives {type(summed).__name__}, expected a hierfed.federated.rules.Summed")
    return replace(summed, bytes_up=summed.bytes_up - sum(saved)), kept
