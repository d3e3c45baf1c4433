"""Commands that show what there is to run on: data and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hierfed.cli.options import Columns, Join, Query, Test
from hierfed.cli.output import print_content, print_path
from hierfed.settings import load_settings, parse_assignments, preset_names


def data(
    source: Annotated[str, typer.Argument()] = "embedded",
    query: Query = None,
    join: Join = None,
    test: Test = None,
    column: Columns = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="Write the items to this file, for `hierfed server`.", show_default=False)
    ] = None,
) -> None:
    """Show what a source holds: counts, hashes, join coverage, licence, and what was dropped and why.

    SOURCE is embedded, movielens-small, a folder, a table (CSV, TSV, Parquet, SQLite) or postgresql://USER@HOST/DATABASE.
    """
    from hierfed.data.sources import load  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.report.progress import downloading  # noqa: PLC0415

    columns = parse_assignments(column or [])
    with downloading() as progress:
        dataset = load(
            source,
            join=[join] if join else (),
            columns=columns or None,
            test=test,
            query=query or "",
            progress=progress,
        )
    print_content(terminal.dataset_table(dataset))
    if catalogue is not None:
        from hierfed.atomic import write_atomically  # noqa: PLC0415
        from hierfed.data.catalogue_file import catalogue_bytes  # noqa: PLC0415

        write_atomically(catalogue, catalogue_bytes(dataset.catalogue))
        print_path(f"The catalogue of {dataset.items:,} items", catalogue)


def presets(
    settings: Annotated[str | None, typer.Option(help="Show all settings of this preset.", show_default=False)] = None,
) -> None:
    """List the presets, or all settings of one."""
    if settings is not None:
        typer.echo(load_settings(settings).to_toml(), nl=False)
        return
    for name in preset_names():
        typer.echo(f"{name:10} {load_settings(name).description}")
