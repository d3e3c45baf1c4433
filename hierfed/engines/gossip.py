"""Rounds without a server: each peer has its own copy of the model, and moves it by its own total."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from hierfed.data.federation import Node, numbers_of, row_counts
from hierfed.engines.in_process import FinishedRound
from hierfed.engines.rounds import PLAIN, Round
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.method import Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.push_sum import PushSum
from hierfed.federated.stage import RATING
from hierfed.observer import SILENT, Observer

_NEARLY_WHOLE = 1e-6


@dataclass(frozen=True)
class Peers(Trained):
    """A training without a server. copies: each peer's model; `shared` is the first one's."""

    copies: Sequence[SharedModel] = ()


def run_gossip(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    how: Round = PLAIN,
    observer: Observer = SILENT,
    stage: str = RATING,
) -> Peers:
    """Train every peer's copy of the model; see hierfed.engines.in_process.run_rounds.

    how: its rule is a PushSum. The observer and `on_round` see the first peer's totals and models. Bytes up are those
    that all peers send; there is no server to send anything down.
    """
    assert isinstance(how.rule, PushSum)
    copies: list[SharedModel] = [method.start()] * len(nodes)
    private: list[PrivateState | None] = [None] * len(nodes)
    rows, sent, began, finished = int(row_counts(nodes).sum()), 0, time.perf_counter(), 0
    while copies[0].round < rounds and (copies[0].round < 1 or observer.should_continue()):
        number, given = copies[0].round + 1, list[Contribution]()
        for place, node in enumerate(nodes):
            contribution, private[place] = next(iter(method.contribute(copies[place], [node], [private[place]])))
            given.append(contribution)
            observer.share(number, (place + 1) / len(nodes))
        # Opening rounds count, and thresholds are applied to counts: all peers must have the same.
        rule = replace(how.rule, exchanges=0) if number < 1 else how.rule
        agreed = rule.agree(given, finished)
        totals = [with_whole_counts(total) for total in agreed.totals] if number < 1 else agreed.totals
        copies = [method.combine(copy, total) for copy, total in zip(copies, totals, strict=True)]
        sent, finished = sent + agreed.bytes, finished + 1
        observer.summed(stage, totals[0], copies[0], numbers_of(nodes))
        if number > 0:
            seconds = time.perf_counter() - began
            on_round(FinishedRound(number, copies[0], totals[0], rows, sent, 0, seconds))
            sent, began = 0, time.perf_counter()
    return Peers(copies[0], private, copies)


def with_whole_counts(total: Contribution) -> Contribution:
    """The total with the arrays rounded whose entries are all whole but for the rounding of the exchanges."""

    def rounded(array: torch.Tensor) -> torch.Tensor:
        whole = array.round()
        return whole if bool(((array - whole).abs() <= _NEARLY_WHOLE).all()) else array

    return Contribution({name: rounded(array) for name, array in total.arrays.items()})
