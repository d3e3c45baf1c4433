"""A finished training that goes on over other rows, and how it may forget old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.method import MOST_REOPENING, Method, Trained
from hierfed.federated.private import PrivateState
from hierfed.federated.stage import RATING, Stage
from hierfed.observer import SILENT, Observer

OPENING = "opening"
"""What observers are told that the opening rounds of a training that goes on are called."""


@dataclass(frozen=True)
class GoingOn:
    """A finished model that a training goes on from, and how far.

    model: its sha256. round: its last one. rounds: at most so many are to come.
    keeps: whether its opening keeps what the finished model knows of which items were rated together; see
    `Method.reopened`.
    """

    model: str
    round: int
    rounds: int
    keeps: bool = False

    def stages(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages of a training from the start, as those of one that goes on: the opening rounds come by themselves.

        After them, `begun` gives the model of ratings that the next stage begins with.
        """
        place = [stage.name for stage in stages].index(RATING)
        rating = stages[place]
        opening = replace(
            rating, name=OPENING, rounds=0, before=max(rating.before, -MOST_REOPENING) if self.keeps else rating.before
        )
        after = replace(rating, rounds=self.round + self.rounds, before=self.round)
        return [*stages[:place], opening, after, *stages[place + 1 :]]


def begun(method: Method, opened: SharedModel, before: SharedModel) -> SharedModel:
    """The model to go on with. opened: the model after the opening rounds. Raises HierfedError for other methods."""
    found = method.resumed(opened, before)
    if found is None:
        raise HierfedError("this run's method cannot go on from a finished model: train it anew with `hierfed run`")
    return found


def resumed_training(
    method: Method,
    nodes: Sequence[Node],
    before: SharedModel,
    rounds: int,
    *,
    train: Callable[..., Trained] = run_rounds,
    observer: Observer = SILENT,
    faded: Mapping[int, float] | None = None,
    keeps: bool = False,
) -> tuple[SharedModel, Trained]:
    """The model after the opening rounds over these nodes, and the training that goes on from `before` for `rounds`.

    train: run_rounds, perhaps with the shape of rounds. faded: a factor on the sums of nodes, by number; None for one
    on all. keeps: see GoingOn. Raises HierfedError where the method cannot go on.
    """
    if not method.fits(before):
        raise HierfedError("the items have other features than those the run knows: train it anew")
    trains: SumMethod = method if faded is None else Faded(method, faded)
    first = Trained(method.reopened(before), [None] * len(nodes)) if keeps else None
    opened = train(trains, nodes, 0, stage=OPENING, observer=observer, begin=first)
    begin = Trained(begun(method, opened.shared, before), opened.private)
    return opened.shared, train(trains, nodes, before.round + rounds, begin=begin, observer=observer)


@dataclass(frozen=True)
class Faded(SumMethod):
    """A method whose sums of some nodes count less, by their numbers: exponential forgetting of sufficient statistics.

    Sums are linear in the users, so a factor f counts a node's users as f users each. Source: Kulhavy and Zarrop, On a
    general concept of forgetting, 1993.
    """

    method: Method
    factors: Mapping[int, float]

    def start(self) -> SharedModel:
        """See SumMethod."""
        return self.method.start()

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """See SumMethod."""
        for node, (sums, kept) in zip(nodes, self.method.contribute(shared, nodes, private), strict=True):
            factor = self.factors[node.number]
            yield sums if factor == 1 else factor * sums, kept

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See SumMethod."""
        return self.method.combine(shared, total)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """None: faded sums are of no whole users."""
        return []


class Settled(Observer):
    """Ends a training once a round moves a newcomer's expected ratings by less than `tolerance`, root mean square.

    These do not depend on how a level is shared out between users and items, which the parameters do.
    """

    def __init__(self, method: Method, items: int, tolerance: float):
        self._method, self._rows, self._tolerance = (
            method,
            rows_to_predict(np.zeros(items), np.arange(items)),
            tolerance,
        )
        self._before: torch.Tensor | None = None
        self.moved = np.inf

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """See Observer."""
        if stage != RATING:
            return
        now = self._method.predict(shared, self._rows)
        if self._before is not None:
            self.moved = float((now - self._before).square().mean().sqrt())
        self._before = now

    def should_continue(self) -> bool:
        """See Observer."""
        return self.moved >= self._tolerance
