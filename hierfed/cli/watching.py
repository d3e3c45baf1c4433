"""A federation as a person sees it: lines for logs, a bar for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hierfed.cli.logs import LOG
from hierfed.deployment.admission import ServerObserver
from hierfed.plain_text import plural, printable
from hierfed.report.console import PlainConsole
from hierfed.results import DeployedRound, Result

WARNING = "warning: "


class FederationLines(ServerObserver):
    """A line for each event, on standard error."""

    def __init__(self, silent: bool = False):
        self.console: Console = PlainConsole(stderr=True, quiet=silent, highlight=False, soft_wrap=True)

    def tell(self, event: str) -> None:
        """Write the line."""
        self.console.print(printable(event), markup=False)

    def on_round(self, record: DeployedRound) -> None:
        """Write the round, and every answer that was refused."""
        for answer in record.refused:
            self.warn(f"node {answer.node}, {record.stage} round {record.round}: refused: {answer.reason}")
        if record.abandoned:
            self.warn(
                f"{record.stage}, round {record.round}: abandoned, the model is as it was: only "
                f"{plural(len(record.contributors), 'node')} contributed"
            )
            return
        loss = f", loss {record.train_loss[-1]:.4f}" if record.train_loss else ""
        told = f"{plural(len(record.contributors), 'node')}, {record.bytes_up:,} bytes, {record.seconds:.1f} s"
        self.tell(f"{record.stage}, round {record.round}: {told}{loss}")

    def on_result(self, result: Result) -> None:
        """Write what was gained."""
        gain = None if result.federation is None else result.federation.gain
        if gain is None:
            self.tell(
                "no node held out rows to be judged on: protocol warm and temporal do, and `hierfed node --test-share`"
            )
        else:
            self.tell(
                f"on {gain.rows:,} held-out ratings: RMSE {gain.rmse_before:.4f} before personalisation, "
                f"{gain.rmse_after:.4f} after"
            )
        self.tell(f"digest {result.digest}")


class LoggedLines(FederationLines):
    """The lines of a server or a node, as a log."""

    def tell(self, event: str) -> None:
        """Write the line; one that begins with "warning: " has that level."""
        if event.startswith(WARNING):
            LOG.warning("%s", event.removeprefix(WARNING))
        else:
            LOG.info("%s", event)

    def warn(self, event: str) -> None:
        """Write the line as a warning."""
        LOG.warning("%s", event.removeprefix(WARNING))


class FederationBar(FederationLines):
    """A bar for the rounds; warnings are written above it."""

    def __init__(self, progress: Progress):
        super().__init__()
        self.console = progress.console
        self.progress = progress
        self.task = progress.add_task("", total=None, stage="starting server and nodes")

    def tell(self, event: str) -> None:
        """Show the event beside the bar."""
        self.progress.update(self.task, stage=printable(event))

    def on_plan(self, rounds: int) -> None:
        """Set the bar's length."""
        self.progress.update(self.task, total=rounds)

    def on_round(self, record: DeployedRound) -> None:
        """Move the bar by one."""
        for answer in record.refused:
            line = printable(f"node {answer.node}, round {record.round}: refused: {answer.reason}")
            self.progress.console.print(line, markup=False)
        stage = f"{record.stage}, round {record.round}{' abandoned' if record.abandoned else ''}"
        self.progress.update(self.task, advance=0 if record.abandoned else 1, stage=stage)


@contextmanager
def showing(silent: bool) -> Iterator[FederationLines]:
    """A bar on standard error while the block runs, lines where that is no terminal, nothing where `silent`."""
    console = PlainConsole(stderr=True)
    if silent or not console.is_terminal:
        yield FederationLines(silent)
        return
    columns = (
        TextColumn("federation"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield FederationBar(progress)
