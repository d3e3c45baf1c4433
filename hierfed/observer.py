"""Watching a run: one class whose methods do nothing until a subclass overrides them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hierfed.federated.contract import Contribution, SharedModel
    from hierfed.federated.recorded import RecordedStep
    from hierfed.results import Result, RoundRecord


class Observer:
    """Watches a run, and may end its training; override what you need.

    >>> class Printer(Observer):
    ...     def round(self, record):
    ...         print(record.round, round(record.global_rmse, 4))
    """

    def stage(self, name: str) -> None:
        """Called as a part of the run begins.

        name: `data`, `select`, `train`, `personalise`, `baselines`, `rank` or `report`.
        """

    def download(self, done: int, total: int | None) -> None:
        """Called as a download goes on. done, total: bytes; total is None where the server does not say."""

    def share(self, number: int, share: float) -> None:
        """Called as a round goes on. number: of the round. share: of its ratings that are summed; 0 as it begins."""

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """Called as a total has been combined into a model.

        stage: the name of the training. shared: the new model. numbers: of the nodes that contributed.
        """

    def round(self, record: RoundRecord) -> None:
        """Called as a round of the model of ratings has ended and was judged."""

    def judged(self, done: int, nodes: int) -> None:
        """Called as personalisation nodes are judged. done: how many have been. nodes: how many there are."""

    def note(self, line: str) -> None:
        """Called with a line that a person may want to read."""

    def result(self, result: Result) -> None:
        """Called with the result as the run ends."""

    def should_continue(self) -> bool:
        """Called before each round but the first; False stops the training with its finished rounds."""
        return True

    def recorded(self) -> Sequence[RecordedStep] | None:
        """Called once, under asynchronous rounds: the order in which nodes answer; None lets their speeds decide."""
        return None


SILENT = Observer()
"""The observer that does nothing."""


class SharesOnly(Observer):
    """Tells another observer the shares of rounds, and nothing else: for trainings beside the one of ratings."""

    def __init__(self, observer: Observer):
        self._observer = observer

    def share(self, number: int, share: float) -> None:
        """See Observer."""
        self._observer.share(number, share)


class FirstRoundOnly(Observer):
    """Ends a training after its first round: for the stages that are left once somebody has asked for an end."""

    def should_continue(self) -> bool:
        """See Observer."""
        return False


class Observers(Observer):
    """Several observers as one; one that wants to stop stops the training."""

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

    def recorded(self) -> Sequence[RecordedStep] | None:
        """See Observer. The first order counts."""
        return next((found for each in self._observers if (found := each.recorded()) is not None), None)


def tell(observer: Observer, kind: str, lines: Iterable[str]) -> None:
    """Note each of the lines, which are of a kind, such as `warning`."""
    for line in lines:
        observer.note(f"{kind}: {line}")
