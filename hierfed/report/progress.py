"""Progress of a run on the terminal: a live bar where there is one, a line per round where there is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hierfed.results import RoundRecord
from hierfed.settings import Settings

STAGES = {
    "data": "reading data",
    "select": "choosing hyperparameters",
    "train": "training",
    "personalise": "personalising",
    "baselines": "training the baselines",
    "rank": "training the ranking models",
    "report": "drawing the report",
}


class Watcher:
    """Shows nothing; the observer of quiet runs."""

    def on_stage(self, stage: str) -> None:
        """A stage begins."""

    def on_round(self, record: RoundRecord) -> None:
        """A round has ended."""

    def on_download(self, done: int, total: int | None) -> None:
        """So many bytes of the data have come."""

    def tell(self, line: str) -> None:
        """Something that a person may want to know."""


class Bar(Watcher):
    """A live progress bar with round, loss and RMSE."""

    def __init__(self, progress: Progress, label: str, rounds: int):
        self.progress = progress
        self.task = progress.add_task("", total=rounds, label=label, stage="", errors="")

    def on_stage(self, stage: str) -> None:
        """Show the stage's name."""
        self.progress.update(self.task, stage=STAGES[stage])

    def on_round(self, record: RoundRecord) -> None:
        """Move the bar by one."""
        total = None if record.round else 1  # a method without rounds is judged once
        self.progress.update(self.task, advance=1, total=total, errors=_errors(record))

    def on_download(self, done: int, total: int | None) -> None:
        """Show the share, or the bytes, that have come."""
        share = f"{done / total:.0%}" if total else f"{done:,} bytes"
        self.progress.update(self.task, stage=f"downloading {share}")

    def tell(self, line: str) -> None:
        """Write the line above the bar."""
        self.progress.console.print(line, highlight=False, markup=False)


class Lines(Watcher):
    """One line per round, for logs."""

    def __init__(self, console: Console, label: str, rounds: int):
        self.console, self.label, self.rounds = console, label, rounds

    def on_round(self, record: RoundRecord) -> None:
        """Write the line."""
        place = f"round {record.round}/{self.rounds}" if record.round else "no rounds"
        self.console.print(f"{self.label}: {place}  {_errors(record)}", highlight=False)

    def tell(self, line: str) -> None:
        """Write the line."""
        self.console.print(line, highlight=False, markup=False)


def _errors(record: RoundRecord) -> str:
    loss = f"loss {record.train_loss[-1]:.4f}  " if record.train_loss else ""
    return f"{loss}RMSE {record.global_rmse:.4f}"


@contextmanager
def watching(settings: Settings, label: str, silent: bool) -> Iterator[Watcher]:
    """An observer that reports on standard error while the block runs, as the terminal there allows."""
    console, rounds = Console(stderr=True), settings.training.rounds
    if silent:
        yield Watcher()
    elif not console.is_terminal:
        yield Lines(console, label, rounds)
    else:
        columns = (
            TextColumn("{task.fields[label]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[errors]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield Bar(progress, label, rounds)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error for what the block tells of its work, (done, total); nothing is shown before."""
    console = Console(stderr=True)
    progress = Progress(*Progress.get_default_columns(), console=console, transient=True)
    task = progress.add_task(what)

    def show(done: int, total: int | None) -> None:
        if console.is_terminal:
            progress.start()
            progress.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
