"""Tables that are columns already, before any check: frames in memory, spreadsheets, JSON and blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hierfed.data.reading.checks import POLARS
from hierfed.data.reading.files import read_bytes
from hierfed.errors import DataError

SPREADSHEETS = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
IN_MEMORY = "a table in memory"
_PANDAS = "pandas"


@dataclass(frozen=True)
class RawTable:
    """Columns as they were found.

    frame: columns by their own names.
    place: gives the place of row r.
    name: of the source, for provenance; size and sha256 of its bytes.
    where: the place of the names, for messages.
    """

    frame: pl.DataFrame
    place: Callable[[int], str]
    name: str
    size: int
    sha256: str
    where: str


def is_table(data: object) -> bool:
    """True for a polars or pandas DataFrame, and for an Arrow table."""
    return isinstance(data, (pl.DataFrame, pl.LazyFrame)) or _is_pandas(data) or hasattr(data, "__arrow_c_stream__")


def frame_of(data: Any) -> pl.DataFrame:
    """A DataFrame of polars or pandas, or an Arrow table, as a polars DataFrame; pandas' index is left out."""
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    if not _is_pandas(data):
        return pl.DataFrame(data)
    # Column by column, so that pyarrow need not be installed.
    names = [str(name) for name in data.columns]
    return pl.DataFrame([_of_pandas(data.iloc[:, place]).alias(name) for place, name in enumerate(names)])


def in_memory(data: Any) -> RawTable:
    """A table in memory; its bytes are those of its columns as CSV. Rows are counted from 1."""
    frame = frame_of(data)
    if frame.is_empty():
        raise DataError(f"{IN_MEMORY}: it holds no rows")
    flat = frame.select(pl.col(column.name) for column in frame if not column.dtype.is_nested())
    raw = flat.write_csv().encode()
    digest = hashlib.sha256(raw).hexdigest()
    return RawTable(frame, lambda row: f"{IN_MEMORY}, row {row + 1}", IN_MEMORY, len(raw), digest, IN_MEMORY)


def read_spreadsheet(path: Path) -> RawTable:
    """The first sheet of a spreadsheet. Raises DataError if the package that reads it is not there."""
    raw = read_bytes(path)
    try:
        import fastexcel  # noqa: PLC0415 - an extra, which few need
    except ImportError as error:
        raise DataError(f"{path}: a spreadsheet: save it as CSV, or pip install 'hierfed[excel]'") from error
    try:
        frame = pl.read_excel(raw, engine="calamine", infer_schema_length=None)
    except (fastexcel.FastExcelError, *POLARS) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as a spreadsheet: {reason[:200]}; save it as CSV") from error
    if frame.is_empty():
        raise DataError(f"{path}: its first sheet holds no rows")
    # A spreadsheet knows no whole numbers.
    whole = [column.name for column in frame if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all()]
    frame = frame.with_columns(pl.col(whole).cast(pl.Int64))
    return RawTable(
        frame,
        lambda row: f"{path}, row {row + 2}",
        path.name,
        len(raw),
        hashlib.sha256(raw).hexdigest(),
        f"{path}, row 1",
    )


def _is_pandas(data: object) -> bool:
    return type(data).__module__.split(".")[0] == _PANDAS and hasattr(data, "columns")


def _of_pandas(column: Any) -> pl.Series:
    """A column of pandas, with null for every kind of nothing that pandas has."""
    kind = str(column.dtype)
    if kind.startswith("datetime64"):
        utc = column if getattr(column.dt, "tz", None) is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
        return pl.Series(utc.to_numpy())
    if kind in ("object", "str", "category") or column.isna().any() or not hasattr(column.dtype, "num"):
        missing = column.isna().tolist()
        values = [None if nothing else value for value, nothing in zip(column.tolist(), missing, strict=True)]
        return pl.Series(values, strict=not any(isinstance(value, str) for value in values), dtype=_kind(values))
    return pl.Series(column.to_numpy())


def _kind(values: list[Any]) -> type[pl.DataType] | None:
    return pl.String if any(isinstance(value, str) for value in values) else None
