"""Any table of ratings, in a file (CSV, TSV, Parquet) or a database: a user, an item, a rating, perhaps a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.databases import is_database, is_server, read_database
from hierfed.data.reading.delimited import open_delimited
from hierfed.data.reading.licences import table_terms
from hierfed.data.reading.rating_files import RatingFile, read_delimited, read_parquet
from hierfed.errors import DataError

# The rating scale of a user's own table is unknown.
_RULES = Rules()
_PARQUET_ENDINGS = {".parquet", ".pq"}


def read_tables(source: str, columns: Mapping[str, str] | None, test: str | None, query: str) -> Source:
    """The ratings of a table, and of a second one with test ratings if `test` names one.

    An SQLite file is recognised by its first bytes, Parquet by its ending. The separator of a text file is the most
    frequent one in its header: comma, tab, semicolon or bar.

    columns: role (user, item, rating, time) to column, for both tables.
    query: a select for the first table, if it is a database.
    Raises DataError with file, row and column at the first bad row.
    """
    if test is not None and is_server(test):
        raise DataError("test rows come from a file, and cannot be asked of a PostgreSQL server")
    train = _read(source, columns, query)
    held = None if test is None else _read(test, columns, "")
    files = (train.file,) if held is None else (train.file, held.file)
    tables = [train] if held is None else [train, held]
    notes = []
    for role in ("user", "item"):
        if any(getattr(table.part, role).ids.dtype == pl.String for table in tables):
            notes.append(f"{role} ids are text")
    return Source(
        table_terms(train.file.name), files, train.part, None if held is None else held.part, None, tuple(notes)
    )


def _read(source: str, columns: Mapping[str, str] | None, query: str) -> RatingFile:
    if is_database(source):
        return read_database(source, query, columns, _RULES)
    path = Path(source)
    if path.suffix.lower() in _PARQUET_ENDINGS:
        return read_parquet(path, columns, _RULES)
    return read_delimited(open_delimited(path), columns, _RULES)
