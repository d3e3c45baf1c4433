"""The options that several commands share, and the settings that they make together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hierfed.errors import SettingsError
from hierfed.settings import Settings, load_settings, parse_assignments, parse_value

Preset = Annotated[str, typer.Argument(help="A preset's name (see `hierfed presets`) or a settings file, NAME.toml.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="embedded, movielens-small, a folder, a table (CSV, TSV, Parquet, SQLite) or postgresql://USER@HOST/DATABASE.",
        show_default=False,
    ),
]
Query = Annotated[
    str | None,
    typer.Option(help="For SQLite and PostgreSQL: a SELECT that gives user, item, rating and, if there is one, time."),
]
Join = Annotated[str | None, typer.Option(help="links, paper, title or none: how items get their features.")]
Test = Annotated[str | None, typer.Option(help="A table with the test rows, or a named split such as u1.")]
ProtocolOption = Annotated[
    str | None, typer.Option("--protocol", help="two_groups, warm, temporal, cold or given: what is held out of whom.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="user=NAME, item=NAME, rating=NAME, time=NAME; repeatable.")
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="The seed, or the first of --seeds; else the settings' own.", show_default=False),
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value, overriding a setting; repeatable.")]
Refit = Annotated[
    Literal["users", "none"] | None,
    typer.Option(help="users: they learn from held-out rows too, to be served. none: from train rows alone."),
]
Out = Annotated[Path, typer.Option(help="The folder that holds the runs.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]


def settings_of(
    preset: str,
    *,
    data: str | None,
    query: str | None,
    join: str | None,
    protocol: str | None,
    test: str | None,
    columns: list[str] | None,
    seed: int | None,
    sets: list[str] | None,
    refit: str | None = None,
) -> Settings:
    """The preset's settings with these options over them; raises SettingsError where they do not fit."""
    if test is not None and protocol not in (None, "given"):
        raise SettingsError(f"--test gives the test rows, so --protocol {protocol} cannot choose others: leave one out")
    named = {"seed": seed, "data.source": data, "data.query": query, "data.join": join, "data.test": test}
    named |= {"split.protocol": protocol, "serving.refit": refit}
    overrides: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if columns:
        overrides["data.columns"] = parse_assignments(columns)
    overrides |= {key: parse_value(text) for key, text in parse_assignments(sets or []).items()}
    return load_settings(preset, overrides)
