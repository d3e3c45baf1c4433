"""A table of rounds that any spreadsheet reads."""

from __future__ import annotations

import csv
from pathlib import Path

from hierfed.observer import Observer
from hierfed.results import RoundRecord


class RoundsCsv(Observer):
    """Appends a line to a CSV file as each round ends; the first line names the columns.

    train_loss is that of the last local epoch.
    """

    def __init__(self, path: Path):
        self._path = path

    def round(self, record: RoundRecord) -> None:
        """Append one line; see Observer."""
        row = record.model_dump(mode="json") | {"train_loss": record.train_loss[-1] if record.train_loss else None}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8", newline="") as file:
            lines = csv.DictWriter(file, row)
            if file.tell() == 0:
                lines.writeheader()
            lines.writerow(row)
