"""Ratings from an SQLite file: the rows of a query, or of the only table with the right columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from hierfed.data.reading.checks import FLOAT_IDS
from hierfed.data.reading.columns import find_columns
from hierfed.data.reading.queries import Selected, one_line, quoted, statement
from hierfed.errors import DataError, reason_of

MAGIC = b"SQLite format 3\0"
BATCH = 50_000
PATIENCE = 5.0  # seconds
_MOST_NAMED = 20
_IDS = ("user", "item")
_HINTS = {
    "SQLITE_BUSY": "another program is writing to it; try again",
    "SQLITE_LOCKED": "another program is writing to it; try again",
    "SQLITE_CANTOPEN": "it, its folder or its journal may not be opened",
    "SQLITE_CORRUPT": "the file is damaged; restore it",
    "SQLITE_NOTADB": "the file is damaged or encrypted",
    "SQLITE_READONLY": "the query must only read",
}


def read_sqlite(path: Path, query: str, mapping: Mapping[str, str] | None) -> Selected:
    """The rows of `query`; if it is empty, those of the only table or view with a user, an item and a rating.

    The file is opened read-only. All rows are read in one transaction, in batches of 50,000 rows, so that no more than
    a batch are Python objects at a time.

    mapping: role to column, as for `find_columns`.
    Raises DataError, in one line, for a file that is no database, for any refusal of SQLite, and if not exactly one
    table fits.
    """
    _refuse_other_files(path)
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    with (
        _one_line_errors(path),
        closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=PATIENCE)) as base,
    ):
        # A query that attaches another file could create that file.
        base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        base.execute("BEGIN")
        if query:
            return _rows(base.execute(statement(query)), path, "query", mapping)
        table = _only_table(base, path, mapping)
        return _rows(base.execute(f"SELECT * FROM {quoted(table)}"), path, f"table {table}", mapping)


def _rows(cursor: sqlite3.Cursor, path: Path, what: str, mapping: Mapping[str, str] | None) -> Selected:
    if cursor.description is None:
        raise DataError(f"{path}, {what}: gives no rows, expected a SELECT with user, item, rating and perhaps time")
    names = [column[0] for column in cursor.description]
    columns = find_columns(names, mapping, f"{path}, {what}")
    positions = {role: names.index(name) for role, name in columns.items()}
    batches: dict[str, list[pl.Series]] = {role: [] for role in columns}
    done = 0
    while rows := cursor.fetchmany(BATCH):
        for role, position in positions.items():
            values = [row[position] for row in rows]
            if bytes in map(type, values):
                row = done + 1 + next(row for row, value in enumerate(values) if isinstance(value, bytes))
                raise DataError(f"{path}, row {row}, column {columns[role]}: found a BLOB, expected a number or text")
            if role in _IDS and float in map(type, values):
                row, value = next((row, value) for row, value in enumerate(values) if isinstance(value, float))
                where = f"{path}, row {done + 1 + row}, column {columns[role]}"
                raise DataError(f"{where}: found the float {value}, expected {FLOAT_IDS}")
            batches[role].append(_column(values))
        done += len(rows)
    if not done:
        raise DataError(f"{path}, {what}: holds no rows")
    frame = pl.DataFrame({role: _joined(parts) for role, parts in batches.items()})
    return Selected(str(path), f"{path.name}, {what}", frame, columns)


def _column(values: Sequence[Any]) -> pl.Series:
    """One column of a batch as whole numbers, floats or text, since in SQLite each row may have its own type."""
    kinds = set(map(type, values))
    if str in kinds:
        return pl.Series([value if value is None else str(value) for value in values], dtype=pl.String)
    return pl.Series(values, dtype=pl.Float64 if float in kinds else pl.Int64, strict=False)


def _joined(parts: Sequence[pl.Series]) -> pl.Series:
    types = {part.dtype for part in parts}
    wide = next(kind for kind in (pl.String(), pl.Float64(), pl.Int64()) if kind in types)
    return pl.concat([part.cast(wide) for part in parts])


def _only_table(base: sqlite3.Connection, path: Path, mapping: Mapping[str, str] | None) -> str:
    found = base.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
    tables = [str(name) for (name,) in found if not name.startswith("sqlite_")]
    if not tables:
        raise DataError(f"{path}: the database holds no tables")
    fitting = [table for table in tables if len(tables) == 1 or _fits(base, table, mapping)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(f"{path}: {_listed(fitting)} all hold ratings; choose with --query 'SELECT ... FROM ...'")
    raise DataError(
        f"{path}: none of the tables {_listed(tables)} has columns for user, item and rating; name them with "
        f"--column user=NAME, or choose with --query 'SELECT ... FROM ...'"
    )


def _fits(base: sqlite3.Connection, table: str, mapping: Mapping[str, str] | None) -> bool:
    try:
        cursor = base.execute(f"SELECT * FROM {quoted(table)} LIMIT 0")
        find_columns([column[0] for column in cursor.description], mapping, table)
    except (sqlite3.OperationalError, DataError):  # a view of a deleted table holds no ratings either
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _refuse_other_files(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except FileNotFoundError as error:
        raise DataError(f"{path}: file not found") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
    if start != MAGIC:
        raise DataError(f"{path}: {'is no SQLite database' if start else 'the file is empty'}")


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    # Up to Python 3.11, a second statement in a query raises Warning, which is no Error.
    except (sqlite3.Error, sqlite3.Warning) as error:
        # The first byte of SQLite's code is the kind of error, the others give its cause.
        name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
        hint = f": {_HINTS[name]}" if name in _HINTS else ""
        raise DataError(f"{path}: SQLite refuses: {one_line(str(error))}{hint}") from error
    # Names of damaged tables and columns are decoded outside of SQLite.
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: holds a name that is no UTF-8: {_HINTS['SQLITE_CORRUPT']}") from error
