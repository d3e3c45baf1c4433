"""The command that runs a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.options import Json, Out, Quiet
from hierfed.cli.output import print_content, print_json, print_path, say


def study(
    file: Annotated[Path, typer.Argument(help="A TOML file of presets, variants of settings, and seeds.")],
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run presets, variants of settings and seeds as one table.

    A run that is finished stays in the study's folder: after a kill, the same
    command goes on where it was.
    """
    from hierfed.atomic import write_atomically  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.runs import study as studies  # noqa: PLC0415

    asked, folder, silent = studies.read_study(file), out / file.stem, quiet or as_json
    results = studies.run_study(asked, folder, (lambda line: None) if silent else say)
    summaries, differences = studies.summaries_of(results)
    found = studies.study_json(summaries, differences)
    write_atomically(folder / "study.json", found.encode())
    if as_json:
        print_json(found)
    elif not quiet:
        print_content(terminal.comparison_table(summaries, differences))
        print_path("The study", folder / "study.json")
