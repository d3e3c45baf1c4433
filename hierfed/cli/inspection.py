"""Commands that show, or make, what there is to run on: data and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from hierfed.cli.options import Join, Query, TableOptions, Test, taking
from hierfed.cli.output import print_content, print_path
from hierfed.errors import SettingsError
from hierfed.settings import load_settings, preset_names


class DataGroup(TyperGroup):
    """`hierfed data SOURCE` is `hierfed data show SOURCE`: words that are no command are for `show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` before words that name no command, unless help is all that is asked for."""
        named = args and args[0] in (*self.commands, "--help")
        return super().parse_args(ctx, args if named else ["show", *args])


_NO_OPTIONS = TableOptions()


@taking(TableOptions)
def data_show(
    source: Annotated[
        str,
        typer.Argument(
            help="embedded, movielens-small, a folder, a table (CSV, TSV, JSON lines, Parquet, XLSX, SQLite) or "
            "postgresql://USER@HOST/DATABASE."
        ),
    ] = "embedded",
    query: Query = None,
    join: Join = None,
    test: Test = None,
    tables: TableOptions = _NO_OPTIONS,
    catalogue: Annotated[
        Path | None, typer.Option(help="Write the items to this file, for `hierfed server`.", show_default=False)
    ] = None,
) -> None:
    """Show what a source holds: counts, hashes, join coverage, licence, and what was dropped and why.

    `hierfed data SOURCE` is `hierfed data show SOURCE`.
    """
    from hierfed.data.reading.sources import load  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.report.progress import counting  # noqa: PLC0415

    how = tables.table_settings()
    if catalogue is not None and catalogue.suffix != ".parquet":
        raise SettingsError(f"--catalogue {catalogue}: it is written as Parquet: name it {catalogue.stem}.parquet")
    with counting("downloading") as progress:
        dataset = load(
            source,
            join=[join] if join else (),
            how=how,
            test=test,
            query=query or "",
            progress=progress,
        )
    print_content(terminal.dataset_table(dataset))
    if catalogue is not None:
        from hierfed.atomic import write_atomically  # noqa: PLC0415
        from hierfed.data.reading.catalogue_file import catalogue_bytes  # noqa: PLC0415

        write_atomically(catalogue, catalogue_bytes(dataset.catalogue))
        print_path(f"The catalogue of {dataset.items:,} items", catalogue)


def data_make(
    out: Annotated[Path, typer.Argument(help="A new folder, to run on with --data.", show_default=False)],
    users: Annotated[int, typer.Option(help="How many users rate.", show_default=False)],
    items: Annotated[int, typer.Option(help="How many films are rated.", show_default=False)],
    ratings: Annotated[int, typer.Option(help="How many ratings there are in all.", show_default=False)],
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    least: Annotated[int, typer.Option(help="Each user has so many ratings or more, in MovieLens 20.")] = 20,
    content: Annotated[bool, typer.Option(help="Write titles, years and genres.")] = True,
    drift: Annotated[
        float, typer.Option(help="How fast tastes and films turn, in radians a year: at .15, half is new in 10 years.")
    ] = 0.0,
    kinds: Annotated[
        int, typer.Option(help="Kinds of users, 1 to 3, whose tastes overlap: 60, 30 and 10% of them.")
    ] = 1,
) -> None:
    """Make ratings like MovieLens', and the truth behind them, in a new folder."""
    from hierfed.generated.files import write_world  # noqa: PLC0415
    from hierfed.report.progress import counting  # noqa: PLC0415

    with counting("making ratings") as progress:
        write_world(
            out,
            users=users,
            items=items,
            ratings=ratings,
            seed=seed,
            least=least,
            content=content,
            drift=drift,
            kinds=kinds,
            progress=progress,
        )
    print_path(f"{ratings:,} ratings of {items:,} items by {users:,} users", out)


def settings(
    key: Annotated[str | None, typer.Argument(help="A setting's key; all if not given.", show_default=False)] = None,
) -> None:
    """Explain one setting, or all: type, usual value and meaning."""
    from hierfed.settings_reference import every_setting, setting  # noqa: PLC0415

    for each in every_setting() if key is None else [setting(key)]:
        typer.echo(f"{each.key} = {each.usual or 'nothing'}  ({each.kind.replace('`', '')})\n    {each.meaning}")


def presets(
    settings: Annotated[str | None, typer.Option(help="Show all settings of this preset.", show_default=False)] = None,
) -> None:
    """List the presets, or all settings of one."""
    if settings is not None:
        typer.echo(load_settings(settings).to_toml(), nl=False)
        return
    names = preset_names()
    for name in names:
        typer.echo(f"{name:{max(map(len, names))}}  {load_settings(name).description}")
