"""The command that runs a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.options import Data, Json, Out, Quiet
from hierfed.cli.output import print_content, print_json, print_path, say


def study(
    asked: Annotated[
        str,
        typer.Argument(metavar="NAME_OR_FILE", help="skew, skew-small, or a TOML file of methods, variants and seeds."),
    ],
    data: Data = None,
    out: Out = Path("runs"),
    processes: Annotated[int, typer.Option(min=1, help="How many runs work at once.")] = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run methods, variants of settings and seeds as one table and one figure.

    A run that is finished stays in the study's folder: after a kill, the same
    command goes on where it was.
    """
    from hierfed.atomic import write_atomically  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.report import study as report  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.report.style import save  # noqa: PLC0415
    from hierfed.runs import study as studies  # noqa: PLC0415
    from hierfed.runs.study_file import read_study  # noqa: PLC0415

    plan = read_study(asked, {} if data is None else {"source": data})
    folder, silent = out / Path(asked).stem, quiet or as_json
    results = studies.run_study(plan, folder, (lambda line: None) if silent else say, processes=processes)
    summaries, differences = studies.summaries_of(results)
    found = studies.study_json(summaries, differences)
    write_atomically(folder / "study.json", found.encode())
    lines = report.lines_of(results, plan.reference)
    figure = save(report.study_figure(lines, plan.groups, plan.reference), "study", folder)[0]
    if as_json:
        print_json(found)
    elif not quiet:
        print_content(report.study_table(lines, plan.reference))
        if len(summaries) <= terminal.MOST_NODES:
            print_content(terminal.comparison_table(summaries, differences))
        print_path("The study", folder / "study.json")
        print_path("Its figure", figure)
