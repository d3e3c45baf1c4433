"""Any table of ratings, in a file, in memory or in a database: a user, an item, a rating, perhaps a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.databases import is_database, is_server, read_database
from hierfed.data.reading.licences import table_terms
from hierfed.data.reading.rating_files import RatingFile, read_delimited, read_parquet, read_raw
from hierfed.data.reading.raw_tables import SPREADSHEETS, RawTable, in_memory, is_table, read_spreadsheet
from hierfed.data.reading.text_tables import open_table
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

_PARQUET_ENDINGS = {".parquet", ".pq"}


def read_tables(source: Any, how: TableSettings, test: str | None, query: str) -> Source:
    """The ratings of a table, and of a second one with test ratings if `test` names one.

    An SQLite file is recognised by its first bytes, Parquet, JSON and spreadsheets by their endings; see `open_table`
    for text files.

    source: a path, the address of a database, or a table in memory.
    how: the form of both tables; the rating scale of a user's own table is unknown.
    query: a select for the first table, if it is a database.
    Raises DataError with file, row and column at the first bad row.
    """
    if test is not None and is_server(test):
        raise DataError("test rows come from a file, and cannot be asked of a PostgreSQL server")
    rules = Rules(how=how)
    train = read_raw(in_memory(source), rules) if is_table(source) else _read(source, rules, query)
    held = None if test is None else _read(test, rules, "")
    files = (train.file,) if held is None else (train.file, held.file)
    tables = [train] if held is None else [train, held]
    notes = []
    for role in ("user", "item"):
        if any(getattr(table.part, role).ids.dtype == pl.String for table in tables):
            notes.append(f"{role} ids are text")
    return Source(
        table_terms(train.file.name), files, train.part, None if held is None else held.part, None, tuple(notes)
    )


def read_file(path: Path, rules: Rules, *, may_lack_header: bool = False) -> RatingFile:
    """The ratings of one file that is no database; see `open_table`."""
    ending = path.suffix.lower()
    if ending in _PARQUET_ENDINGS:
        return read_parquet(path, rules)
    if ending in SPREADSHEETS:
        return read_raw(read_spreadsheet(path), rules)
    table = open_table(path, rules, may_lack_header=may_lack_header)
    return read_raw(table, rules) if isinstance(table, RawTable) else read_delimited(table, rules)


def _read(source: str, rules: Rules, query: str) -> RatingFile:
    if is_database(source):
        return read_database(source, query, rules)
    return read_file(Path(source), rules)
