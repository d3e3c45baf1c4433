"""The options that several commands share, and the settings that they make together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hierfed.data.settings import TableSettings
from hierfed.errors import SettingsError
from hierfed.settings import Settings, load_settings, parse_assignments, parse_value, table_settings

Preset = Annotated[str, typer.Argument(help="A preset's name (see `hierfed presets`) or a settings file, NAME.toml.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="embedded, movielens-small, a folder, a table (CSV, TSV, JSON lines, Parquet, XLSX, SQLite) or "
        "postgresql://USER@HOST/DATABASE.",
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
    str | None,
    typer.Option("--protocol", help="two_groups, warm, temporal, loo, cold, given or none: what is held out."),
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
Track = Annotated[
    list[str] | None,
    typer.Option(help="csv, tensorboard or mlflow: also write rounds and figures for this tool; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]


@dataclass(frozen=True)
class TableOptions:
    """The form of the user's tables, as options; see hierfed.data.settings.TableSettings."""

    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="user=NAME, item=NAME, rating=NAME, time=NAME, or numbers from 1; repeatable."),
    ] = None
    header: Annotated[
        Literal["auto", "yes", "no"] | None,
        typer.Option(metavar="TEXT", help="auto, yes or no: whether the first line names the columns."),
    ] = None
    separator: Annotated[str | None, typer.Option(help="Between fields: a character, tab, space or ::.")] = None
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as latin-1; UTF-8 if not given.")] = None
    time_format: Annotated[str | None, typer.Option(help="Of times that are text, such as dd/mm/yyyy.")] = None
    no_rating: Annotated[
        list[str] | None,
        typer.Option(help="A rating that means seen and not rated, such as -1, or empty; repeatable."),
    ] = None
    repeats: Annotated[
        Literal["error", "first", "last", "mean"] | None,
        typer.Option(metavar="TEXT", help="error, first, last or mean: what to keep of a user's ratings of one item."),
    ] = None
    bad_rows: Annotated[
        Literal["error", "skip"] | None,
        typer.Option(metavar="TEXT", help="error, or skip: leave out rows that are no ratings, and count them."),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The settings that were given, by key."""
        given = {
            "header": self.header,
            "separator": self.separator,
            "encoding": self.encoding,
            "time_format": self.time_format,
            "repeats": self.repeats,
            "bad_rows": self.bad_rows,
        }
        found: dict[str, Any] = {f"data.{key}": value for key, value in given.items() if value is not None}
        if self.column:
            found["data.columns"] = parse_assignments(self.column, "user=who")
        if self.no_rating:
            found["data.no_rating"] = [parse_value(value) for value in self.no_rating]
        return found

    def table_settings(self) -> TableSettings:
        """The form of a table by these options alone. Raises SettingsError where they do not fit."""
        given = TableOptions.overrides(self)
        return table_settings({key.removeprefix("data."): value for key, value in given.items()})


@dataclass(frozen=True)
class DataOptions(TableOptions):
    """The ratings of an experiment and their split, as options."""

    data: Data = None
    query: Query = None
    join: Join = None
    protocol: ProtocolOption = None
    test: Test = None
    implicit: Annotated[
        bool, typer.Option("--implicit", help="Each row says that the user has seen the item; no rating is read.")
    ] = False

    def overrides(self) -> dict[str, Any]:
        """The settings that were given, by key. Raises SettingsError where they contradict each other."""
        if self.test is not None and self.protocol not in (None, "given"):
            raise SettingsError(
                f"--test gives the test rows, so --protocol {self.protocol} cannot choose others: leave one out"
            )
        named: dict[str, Any] = {
            "data.source": self.data,
            "data.query": self.query,
            "data.join": self.join,
            "data.test": self.test,
        }
        named |= {"split.protocol": self.protocol, "data.implicit": self.implicit or None}
        return {key: value for key, value in named.items() if value is not None} | super().overrides()


def taking(kind: type[TableOptions]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of this kind, in place of its parameter `tables`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, names = inspect.signature(command, eval_str=True).parameters, [field.name for field in fields(kind)]
        theirs = inspect.signature(kind, eval_str=True).parameters
        parameters = [
            parameter for name, mine in own.items() for parameter in (theirs.values() if name == "tables" else [mine])
        ]

        @functools.wraps(command)
        def called(**given: Any) -> None:
            tables = kind(**{name: given.pop(name) for name in names})
            command(**given, tables=tables)

        keyword = inspect.Parameter.KEYWORD_ONLY
        called.__signature__ = inspect.Signature([each.replace(kind=keyword) for each in parameters])  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def settings_of(
    preset: str,
    tables: TableOptions,
    *,
    seed: int | None,
    sets: list[str] | None,
    refit: str | None = None,
) -> Settings:
    """The preset's settings with these options over them; raises SettingsError where they do not fit."""
    named = {"seed": seed, "serving.refit": refit}
    overrides = {key: value for key, value in named.items() if value is not None} | tables.overrides()
    overrides |= {key: parse_value(text) for key, text in parse_assignments(sets or []).items()}
    return load_settings(preset, overrides)
