"""Progress of a run on the terminal: a live bar where there is one, a line per round where there is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from hierfed.observer import SILENT, Observer
from hierfed.report import words
from hierfed.report.console import PlainConsole
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


class ProgressBar(Observer):
    """A line on the current part and its errors, and a live bar of rounds, ratings per second and time left."""

    def __init__(self, progress: Progress, label: str, rounds: int):
        self.progress, self._stage = progress, ""
        self.task = progress.add_task("", total=rounds, label=label, stage="", errors="", speed="", training=False)

    def stage(self, name: str) -> None:
        """Show the stage's name; only the training has errors, ratings per second and a time left."""
        self._stage = name
        self.progress.update(self.task, stage=STAGES[name], errors="", speed="", training=name == "train")

    def share(self, number: int, share: float) -> None:
        """Move the bar within a round of the training; rounds of other trainings are shown in words."""
        name = STAGES[self._stage]
        if number < 1:
            self.progress.update(self.task, stage=f"{name}, opening rounds")
        elif self._stage == "train":
            self.progress.update(self.task, stage=name, completed=number - 1 + share)
        else:
            self.progress.update(self.task, stage=f"{name}, round {number}, {share:.0%}" if share < 1 else name)

    def round(self, record: RoundRecord) -> None:
        """Move the bar to the round's end."""
        done, total = (record.round, None) if record.round else (1, 1)  # a method without rounds is judged once
        self.progress.update(self.task, completed=done, total=total, errors=_errors(record), speed=_speed(record))

    def judged(self, done: int, nodes: int) -> None:
        """Show how many nodes have been judged, until all have."""
        told = f", {done:,} of {nodes:,} nodes" if done < nodes else ""
        self.progress.update(self.task, stage=f"{STAGES[self._stage]}{told}")

    def download(self, done: int, total: int | None) -> None:
        """Show the share of the download that has come, or its bytes."""
        share = f"{done / total:.0%}" if total else f"{done:,} bytes"
        self.progress.update(self.task, stage=f"downloading {share}")

    def note(self, line: str) -> None:
        """Write the line above the bar."""
        self.progress.console.print(line, highlight=False, markup=False)


class _TwoLines(Progress):
    """A line of words above the bar: one line for both has no room on 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            line = "{label}: {stage}  {errors}".format(**task.fields)
            yield Text(line, no_wrap=True, overflow="ellipsis")
        yield self.make_tasks_table(self.tasks)


class _Time(TimeRemainingColumn):
    """The time since the run began; while it trains also the time left, by the mean speed so far."""

    def render(self, task: Task) -> Text:
        passed = Text(str(timedelta(seconds=int(task.elapsed or 0))), style="progress.elapsed")
        if not task.fields["training"]:
            return passed
        return Text.assemble(passed, " ", super().render(task), " left")


class ProgressLines(Observer):
    """One line per round, for logs."""

    def __init__(self, console: Console, label: str, rounds: int):
        self.console, self.label, self.rounds = console, label, rounds

    def round(self, record: RoundRecord) -> None:
        """Write the line."""
        place = f"round {record.round}/{self.rounds}" if record.round else "no rounds"
        told = "  ".join(part for part in (place, _errors(record), _speed(record)) if part)
        self.console.print(f"{self.label}: {told}", highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Write the line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _errors(record: RoundRecord) -> str:
    loss = f"loss {record.train_loss[-1]:.4f}  " if record.train_loss else ""
    return f"{loss}RMSE {record.global_rmse:.4f}"


def _speed(record: RoundRecord) -> str:
    return words.speed(record.ratings_per_second) if record.ratings else ""


@contextmanager
def watching(settings: Settings, label: str, silent: bool) -> Iterator[Observer]:
    """An observer that reports on standard error while the block runs, as the terminal there allows."""
    console, rounds = PlainConsole(stderr=True), settings.training.rounds
    if silent:
        yield SILENT
    elif not console.is_terminal:
        yield ProgressLines(console, label, rounds)
    else:
        columns = (
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            _Time(),
        )
        # By rich's own habit a round of more than half a minute leaves no speed to go by.
        with _TwoLines(*columns, console=console, transient=True, speed_estimate_period=math.inf) as progress:
            yield ProgressBar(progress, label, rounds)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, which the block moves by (done, total); it is shown from the first call on."""
    console = PlainConsole(stderr=True)
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
