"""The command that lists runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from hierfed.cli.options import Json, Out
from hierfed.cli.output import print_content, print_json, say
from hierfed.evaluation.metrics import METRICS
from hierfed.plain_text import plural, printable
from hierfed.report.words import decimals

if TYPE_CHECKING:
    from hierfed.runs.listing import ListedRun


def runs(
    out: Out = Path("runs"),
    as_json: Json = False,
    keep: Annotated[
        int | None,
        typer.Option("--prune", min=1, help="Delete the oldest finished runs, and keep this many.", show_default=False),
    ] = None,
) -> None:
    """List the runs that exist: headline figures, and the settings in which they differ."""
    if keep is not None:
        from hierfed.runs.pruning import prune  # noqa: PLC0415 - for this option alone

        prune(out, keep, lambda folder: say(f"deletes {folder}"))
    from hierfed.runs.listing import listed_runs  # noqa: PLC0415 - torch takes seconds to load

    found = listed_runs(out)
    if as_json:
        print_json(json.dumps([asdict(run) for run in found], indent=1, default=str) + "\n")
    elif found:
        print_content(runs_table(found))
    else:
        typer.echo(f"{out}: no run there; `hierfed run` makes one")


def runs_table(found: Sequence[ListedRun]) -> Table:
    """A line a run; one that cannot be read says why."""
    columns = {key: metric for key, metric in METRICS.items() if metric.column}
    table = Table("run", title="Runs", title_justify="left", title_style="bold")
    for metric in columns.values():
        table.add_column(metric.column, justify="right")
    for run in found:
        name = printable(run.folder.name)
        if run.figures is None:
            table.add_row(Text(f"{name}: {printable(run.problem)}", style="bold"))
            continue
        lines = [name, f"{run.preset}, {plural(len(run.seeds), 'seed')}, {run.data}"]
        lines += [f"{key}={value}" for key, value in (run.differs or {}).items()]
        figures = (decimals(run.figures[key], metric.digits) for key, metric in columns.items())
        table.add_row(Text("\n".join(map(printable, lines))), *figures)
    return table
