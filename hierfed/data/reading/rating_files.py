"""From one table of ratings, delimited, Parquet or columns already, to checked columns."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.checks import POLARS, Rules
from hierfed.data.reading.columns import find_columns
from hierfed.data.reading.delimited import Delimited
from hierfed.data.reading.files import file_state, hash_file
from hierfed.data.reading.rating_part import RatingPart, checked_part
from hierfed.data.reading.raw_tables import RawTable
from hierfed.data.reading.repeats import without_repeats
from hierfed.errors import DataError

_TYPES: dict[str, type[pl.DataType]] = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float64, "time": pl.Int64}


@dataclass(frozen=True)
class RatingFile:
    """The checked ratings of one file, and the file's provenance."""

    part: RatingPart
    file: SourceFile


def read_delimited(table: Delimited, rules: Rules) -> RatingFile:
    """The ratings of a delimited file.

    Raises DataError with file, line and column at the first bad row.
    """
    columns = find_columns(table.names, rules.how.columns, f"{table.path}, line 1", rules.how.implicit)

    def place(row: int) -> str:
        return f"{table.path}, line {table.line(row)}"

    # Numbers are parsed at full speed first. Text is read only if that fails: to say which row is bad, or
    # because ids or times are text.
    frame = table.typed({column: _TYPES[role] for role, column in columns.items()})
    if frame is None:
        frame = table.strings()
    malformed = sum(1 for _ in table.rows()) - frame.height if table.skip else 0
    part = without_repeats(checked_part(frame.get_column, columns, place, rules, malformed), rules.how.kept_repeats)
    return RatingFile(part, table.source_file(part.rows_in))


def read_raw(table: RawTable, rules: Rules) -> RatingFile:
    """The ratings of a table that is columns already."""
    columns = find_columns(table.frame.columns, rules.how.columns, table.where, rules.how.implicit)
    part = without_repeats(checked_part(table.frame.get_column, columns, table.place, rules), rules.how.kept_repeats)
    return RatingFile(part, SourceFile(table.name, table.size, table.sha256, part.rows_in))


def read_parquet(path: Path, rules: Rules) -> RatingFile:
    """The ratings of a Parquet file; rows in messages are counted from 1."""
    before = file_state(path)
    with ThreadPoolExecutor(1) as other:
        sha256 = other.submit(hash_file, path)
        part = _parse_parquet(path, rules)
        file = SourceFile(path.name, before.size, sha256.result(), part.rows_in)
    if file_state(path) != before:
        raise DataError(f"{path}: the file changed while it was read; read it again")
    return RatingFile(part, file)


def _parse_parquet(path: Path, rules: Rules) -> RatingPart:
    # Given a path, polars takes brackets for a pattern of names.
    with _explained(path), path.open("rb") as file:
        names = list(pl.read_parquet_schema(file))

    def read(name: str) -> pl.Series:
        with _explained(path):
            column = pl.read_parquet(path, columns=[name], glob=False).to_series()
        if column.is_empty():
            raise DataError(f"{path}: the file holds no rows")
        return column

    def place(row: int) -> str:
        return f"{path}, row {row + 1}"

    columns = find_columns(names, rules.how.columns, str(path), rules.how.implicit)
    part = checked_part(read, columns, place, rules)
    return without_repeats(part, rules.how.kept_repeats)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (*POLARS, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet; it is truncated or no Parquet file") from error
