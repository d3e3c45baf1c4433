"""Rounds as curves in TensorBoard: `tensorboard --logdir runs`."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from hierfed.observer import Observer
from hierfed.results import Result, RoundRecord
from hierfed.tracking.numbers import of_result, of_round


class TensorBoardTracker(Observer):
    """Writes each round's numbers, and the run's metrics as it ends, into a folder of event files.

    Needs the package tensorboard.
    """

    def __init__(self, folder: Path):
        self._writer = SummaryWriter(str(folder))

    def round(self, record: RoundRecord) -> None:
        """Add one point to each curve; see Observer."""
        for name, value in of_round(record).items():
            self._writer.add_scalar(f"round/{name}", value, record.round)
        self._writer.flush()

    def result(self, result: Result) -> None:
        """Add the run's metrics, at its last round; see Observer."""
        for name, value in of_result(result).items():
            self._writer.add_scalar(f"run/{name}", value, result.rounds[-1].round)
        self._writer.close()
