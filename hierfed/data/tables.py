"""Any table of ratings: CSV, TSV or Parquet with a user, an item, a rating and perhaps a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from hierfed.data.assembly import Source
from hierfed.data.checks import Rules
from hierfed.data.delimited import open_delimited, read_bytes
from hierfed.data.licences import table_terms
from hierfed.data.rating_files import RatingFile, read_delimited, read_parquet

# Nothing is known of the scale of a table of the user's own, and its ids may be text.
_RULES = Rules(integer_ids=False)
_PARQUET_ENDINGS = {".parquet", ".pq"}


def read_tables(path: Path, columns: Mapping[str, str] | None, test: str | None) -> Source:
    """The ratings of a table, and of a second one with test ratings where `test` names one.

    Parquet is known by its ending; in text files the separator is that which the header holds most of: comma, tab,
    semicolon or bar. columns: role (user, item, rating, time) to column, for both tables. Raises DataError with
    file, row and column at the first bad row.
    """
    train = _read(path, columns)
    held = None if test is None else _read(Path(test), columns)
    files = (train.file,) if held is None else (train.file, held.file)
    tables = [train] if held is None else [train, held]
    notes = []
    for role in ("user", "item"):
        kinds = {str(table.part.frame.schema[role]) for table in tables}
        if "String" in kinds:
            notes.append(f"{role} ids are text")
    return Source(table_terms(path.name), files, train.part, None if held is None else held.part, None, tuple(notes))


def _read(path: Path, columns: Mapping[str, str] | None) -> RatingFile:
    if path.suffix.lower() in _PARQUET_ENDINGS:
        raw = read_bytes(path)
        return read_parquet(path, raw, hashlib.sha256(raw).hexdigest(), columns, _RULES)
    return read_delimited(open_delimited(path), columns, _RULES)
