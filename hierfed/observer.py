"""Watching a run: one class whose methods do nothing until a subclass overrides them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hierfed.results import Result, RoundRecord

if TYPE_CHECKING:
    import numpy as np

    from hierfed.federated.contract import Contribution, SharedModel


class Observer:
    """Watches a run, and may end its training; override what you need.

    >>> class Printer(Observer):
    ...     def round(self, record):
    ...         print(record.round, round(record.global_rmse, 4))
    """

    def stage(self, name: str) -> None:
        """A part of the run begins: `data`, `select`, `train`, `personalise`, `baselines`, `rank` or `report`."""

    def download(self, done: int, total: int | None) -> None:
        """So many bytes of a download have come; total is None where the server does not say."""

    def share(self, number: int, share: float) -> None:
        """This share of a round's ratings is in its sum; 0 as the round begins. number: of the round."""

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """A sum of what the nodes of these numbers sent has been combined into this model. stage: of the training."""

    def round(self, record: RoundRecord) -> None:
        """A round of the rating model has ended and was judged."""

    def judged(self, done: int, nodes: int) -> None:
        """So many of the personalisation nodes have been judged."""

    def note(self, line: str) -> None:
        """Something happened that a person may want to know."""

    def result(self, result: Result) -> None:
        """The run has ended with this result."""

    def should_continue(self) -> bool:
        """Called before each round but the first; False stops the training with the rounds that there are."""
        return True


SILENT = Observer()
"""The observer of those who do not watch."""


class SharesOnly(Observer):
    """Tells another observer how far rounds are, and nothing else: for trainings beside the one of ratings."""

    def __init__(self, observer: Observer):
        self._observer = observer

    def share(self, number: int, share: float) -> None:
        """See Observer."""
        self._observer.share(number, share)


class Observers(Observer):
    """Several observers as one; the training goes on while all of them want it to."""

    def __init__(self, observers: Sequence[Observer]):
        self._observers = tuple(observers)

    def stage(self, name: str) -> None:
        """See Observer."""
        for each in self._observers:
            each.stage(name)

    def download(self, done: int, total: int | None) -> None:
        """See Observer."""
        for each in self._observers:
            each.download(done, total)

    def share(self, number: int, share: float) -> None:
        """See Observer."""
        for each in self._observers:
            each.share(number, share)

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """See Observer."""
        for each in self._observers:
            each.summed(stage, total, shared, numbers)

    def round(self, record: RoundRecord) -> None:
        """See Observer."""
        for each in self._observers:
            each.round(record)

    def judged(self, done: int, nodes: int) -> None:
        """See Observer."""
        for each in self._observers:
            each.judged(done, nodes)

    def note(self, line: str) -> None:
        """See Observer."""
        for each in self._observers:
            each.note(line)

    def result(self, result: Result) -> None:
        """See Observer."""
        for each in self._observers:
            each.result(result)

    def should_continue(self) -> bool:
        """See Observer."""
        return all(each.should_continue() for each in self._observers)
