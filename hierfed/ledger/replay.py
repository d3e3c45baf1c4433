"""The comparison of a training with the ledger of an earlier one, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel, digest_of
from hierfed.federated.recorded import RecordedStep
from hierfed.federated.stage import RATING
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import RoundEntry
from hierfed.observer import Observer
from hierfed.results import Result


class Replay(Observer):
    """Ends a run with an error at the first sum or model of its rating stage that the ledger does not have.

    `hierfed.run(folder / "settings.toml", observers=[Replay(folder / "ledger.jsonl")])` repeats a run, and so does
    `hierfed run FOLDER/settings.toml --replay FOLDER/ledger.jsonl`. Asynchronous rounds of real nodes follow the order
    that the ledger tells; simulated ones have it from their settings.

    compared: the number of rounds that were equal.
    """

    def __init__(self, path: Path):
        self._path, self.compared = path, 0
        chain = read_chain(path.read_bytes(), path)
        rounds = ((line, entry) for line, entry in enumerate(chain.entries, 1) if isinstance(entry, RoundEntry))
        self._rounds = [(line, entry) for line, entry in rounds if entry.stage == RATING]
        self._due = [(line, entry) for line, entry in self._rounds if entry.sum is not None]
        self._simulated = not chain.entries or chain.opening.simulated

    def recorded(self) -> Sequence[RecordedStep] | None:
        """The order of real nodes' answers; None of simulated ones. Raises HierfedError where nodes joined later."""
        if self._simulated:
            return None
        for line, entry in self._rounds:
            if entry.joined:
                who = ", ".join(entry.joined)
                raise HierfedError(
                    f"{self._path}, line {line}: {who} joined in the midst of the training, and no run repeats it"
                )
        return [
            RecordedStep(tuple(each.contributors), tuple(left.node for left in each.refused), each.sum is not None)
            for _, each in self._rounds
        ]

    def summed(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """Compare a round; see Observer. Raises HierfedError where it differs."""
        if stage != RATING:
            return
        if self.compared == len(self._due):
            raise HierfedError(f"{self._path}: round {shared.round} is not in it, and this run has one")
        line, entry = self._due[self.compared]
        found = {
            "a round": (shared.round, entry.round),
            "a number of nodes": (len(numbers), len(entry.contributors)),
            "a sum": (digest_of(total.arrays), entry.sum),
            "a model": (shared.digest(), entry.model),
        }
        for what, (here, there) in found.items():
            if here != there:
                raise HierfedError(
                    f"{self._path}, line {line}: round {entry.round} has {what} that this run has not; "
                    "to repeat a run, begin with the settings.toml beside its ledger"
                )
        self.compared += 1

    def result(self, result: Result) -> None:
        """Raise HierfedError where the run has ended before the ledger; see Observer. Who stopped it knows that."""
        if self.compared < len(self._due) and not result.ended_early:
            line, entry = self._due[self.compared]
            raise HierfedError(f"{self._path}, line {line}: has round {entry.round}, and this run ended before it")
