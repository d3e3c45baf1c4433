"""A catalogue as a file: a server publishes it to its nodes, and a company can write it from its own item table."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.ids import ascending
from hierfed.data.reading.checks import POLARS, parse_ids
from hierfed.data.reading.columns import require
from hierfed.errors import DataError, reason_of

SEPARATOR = "|"
_TEXTS = {"title": pl.String, "year": pl.Int32}
_LISTS = ("genres", "metadata_genres")

CATALOGUE = "catalogue.parquet"
"""The file's name in the folder of a run or a node."""


def read_catalogue(path: Path, as_written: bool = False) -> Catalogue:
    """Read a catalogue from Parquet or CSV: column `item_id`, and any of title, year, genres and the numeric features.

    In CSV, bars separate genres. Items are numbered in ascending order of their ids, or as written: new items of a run
    that went on follow its own. Raises DataError, in one line, for a file that is no catalogue.
    """
    try:
        # Given a path, polars takes brackets for a pattern of names.
        content = path.read_bytes()
        if path.suffix.casefold() == ".csv":
            frame = pl.read_csv(content, schema_overrides=dict.fromkeys(("item_id", "title", *_LISTS), pl.String))
        else:
            frame = pl.read_parquet(content)
    except (OSError, *POLARS) as error:
        raise DataError(f"{path}: cannot be read as a catalogue (Parquet, or CSV): {reason_of(error)}") from error
    return _checked(frame, path, as_written)


def catalogue_bytes(catalogue: Catalogue) -> bytes:
    """The catalogue as a Parquet file."""
    file = io.BytesIO()
    catalogue.frame.write_parquet(file)
    return file.getvalue()


def catalogue_of_bytes(content: bytes) -> Catalogue:
    """The catalogue that `catalogue_bytes` wrote, numbered as written. Raises DataError for bytes that hold none."""
    try:
        frame = pl.read_parquet(content)
    except POLARS as error:
        raise DataError(f"the server's catalogue cannot be read: {str(error).splitlines()[0]}") from error
    return _checked(frame, Path("the server's catalogue"), as_written=True)


def listed(catalogue: Catalogue) -> Catalogue:
    """The same items in the ascending order of their ids, in which files are read."""
    return Catalogue(catalogue.frame[ascending(catalogue.frame["item_id"])])


def _checked(frame: pl.DataFrame, path: Path, as_written: bool = False) -> Catalogue:
    require(frame.columns, ["item_id"], path)
    if frame.is_empty():
        raise DataError(f"{path}: the catalogue holds no items")
    ids = parse_ids(frame["item_id"], "item_id", lambda row: f"{path}, item {row + 1}")
    if ids.n_unique() < len(ids):
        raise DataError(f"{path}, column item_id: {ids.filter(ids.is_duplicated())[0]} stands twice, expected once")
    try:
        columns = [ids if ids.dtype == pl.String else ids.cast(pl.Int64)]
        for name, kind in _TEXTS.items():
            columns.append(frame[name].cast(kind) if name in frame.columns else _nulls(name, len(ids), kind))
        for name in _LISTS:
            lists = frame[name] if name in frame.columns else _nulls(name, len(ids), pl.List(pl.String))
            columns.append(lists.str.split(SEPARATOR) if lists.dtype == pl.String else lists.cast(pl.List(pl.String)))
        numeric = [name for name in NUMERIC_FEATURES if name in frame.columns]
        columns += [frame[name].cast(pl.Float64) for name in numeric]
        known = frame["matched"].cast(pl.Boolean) if "matched" in frame.columns else None
    except POLARS as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from error
    if known is None:
        known = pl.Series("matched", [bool(numeric)] * len(ids))
    found = pl.DataFrame([*columns, known])
    return Catalogue(found if as_written else found[ascending(ids)])


def _nulls(name: str, rows: int, kind: pl.DataType | type[pl.DataType]) -> pl.Series:
    return pl.Series(name, [None] * rows, dtype=kind)
