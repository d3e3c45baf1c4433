"""The command that judges, then learns, block after block."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.options import Data, Json, Preset, Seed, Sets
from hierfed.cli.output import print_content, print_json, print_path, say


def prequential(
    preset: Preset = "hierarchical",
    data: Data = None,
    by: Annotated[str, typer.Option(help="year, month, or a number of ratings: what a block is.")] = "year",
    update_rounds: Annotated[int, typer.Option(min=1, help="Rounds of an update.")] = 5,
    first: Annotated[float, typer.Option(min=0, max=1, help="Share of the ratings that all begin with.")] = 0.2,
    seed: Seed = None,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="A folder for table and figure.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Judge on each block of time, then learn from it: five strategies of updating, their errors and their costs.

    frozen learns nothing; users lets users' own models learn; rounds is some more
    rounds; forgetting lets the sums of users who have gone fade, by a factor that past
    blocks chose; retrain begins anew. Ratings are expected at their own times.
    """
    from hierfed.api import prequential as judged  # noqa: PLC0415 - torch takes seconds to load
    from hierfed.atomic import write_atomically  # noqa: PLC0415
    from hierfed.report import prequential as figures  # noqa: PLC0415
    from hierfed.report.style import save  # noqa: PLC0415
    from hierfed.report.terminal import rows_table  # noqa: PLC0415
    from hierfed.runs.folder import make_folder  # noqa: PLC0415
    from hierfed.settings import parse_assignments, parse_value  # noqa: PLC0415

    settings = {key: parse_value(text) for key, text in parse_assignments(sets or []).items()}
    if seed is not None:
        settings["seed"] = seed
    tell = (lambda line: None) if as_json else say
    if out is not None:
        # Before the work, which would be lost.
        make_folder(out)
    found = judged(preset, data=data, by=by, update_rounds=update_rounds, first=first, tell=tell, **settings)
    table = found.to_frame()
    if out is not None:
        write_atomically(out / "prequential.csv", table.write_csv().encode())
        labels = [block.label for block in found.blocks]
        rmse = {name: [block.rmse[name] for block in found.blocks] for name in found.strategies}
        save(figures.by_block(labels, rmse), "prequential", out)
    if as_json:
        print_json(table.write_json())
        return
    print_content(rows_table(found))
    for age, rows, gain in found.aged.gains():
        say(f"a user's own model, {age} after the last rating: {gain:+.4f} stars better, {rows:,} ratings")
    say(f"half-life of a personal model: {found.aged.half_life()}")
    if out is not None:
        print_path("Table and figure", out)
