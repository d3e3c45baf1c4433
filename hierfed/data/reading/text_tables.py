"""A user's own text files as tables: with or without a header, with any separator, Netflix' blocks, JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed.data.reading.checks import Rules
from hierfed.data.reading.delimited import SEPARATORS, Delimited, Text, delimited, read_text
from hierfed.data.reading.raw_tables import RawTable
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

ROLES = ("user", "item", "rating", "time")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_RATING_PLACE = 2
_BLOCK = re.compile(rb"[0-9]+:\r?\n")


def open_table(path: Path, rules: Rules, *, may_lack_header: bool = False) -> Delimited | RawTable:
    """Read a user's text file, packed or not.

    may_lack_header: True if a number where the third column's name should be means that there is no header.
    Raises DataError for an option that this file cannot take, and as `open_delimited` does.
    """
    how = rules.how
    text = read_text(path, how.encoding or "utf-8")
    if _is_json(path):
        return _json_rows(text)
    if _BLOCK.match(text.data):
        return _blocks(text)
    separator = how.separator or _separator(text.first)
    fields = text.first.split(separator)
    by_number = bool(how.columns) and all(column.isdigit() for column in how.columns.values())
    guessed = may_lack_header or separator == "::" or by_number
    if how.header == "no" or (how.header == "auto" and guessed and is_number(_rating_of(fields, how))):
        return delimited(text, separator=separator, names=_names(fields, how), quoted=True, skip=rules.skip)
    return delimited(text, separator=separator, names=None, skip=rules.skip)


def is_number(field: str) -> bool:
    """True if the field is a finite number, with a decimal comma too."""
    try:
        return bool(np.isfinite(float(field.strip().strip('"').replace(",", "."))))
    except ValueError:
        return False


def _separator(first: str) -> str:
    if first.count("::") >= _RATING_PLACE:
        return "::"
    found = max(SEPARATORS, key=first.count)
    return found if found in first else " "


def _rating_of(fields: list[str], how: TableSettings) -> str:
    number = how.columns.get("rating", str(_RATING_PLACE + 1))
    return fields[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(fields) else ""


def _names(fields: list[str], how: TableSettings) -> tuple[str, ...]:
    """Names for the columns of a file without any: their numbers, if those are mapped; else the roles in order."""
    if how.columns:
        return tuple(str(number) for number in range(1, len(fields) + 1))
    return tuple(ROLES[number] if number < len(ROLES) else str(number + 1) for number in range(len(fields)))


def _blocks(text: Text) -> RawTable:
    """Netflix' files: blocks of `user,rating,date` under the item's number and a colon."""
    lines = pl.Series("line", text.data.decode("utf-8", "replace").split("\n")).str.strip_chars_end("\r")
    frame = pl.DataFrame({"line": lines, "number": np.arange(1, len(lines) + 1)})
    frame = frame.with_columns(item=pl.col("line").str.extract(r"^(.*):$").forward_fill())
    rows = frame.filter(~pl.col("line").str.ends_with(":") & (pl.col("line") != ""))
    wrong = rows.filter(pl.col("line").str.count_matches(",") != _RATING_PLACE)
    if wrong.height:
        raise DataError(
            f"{text.path}, line {wrong['number'][0]}: found {wrong['line'][0]!r}, expected user,rating,date or an "
            "item's number and a colon"
        )
    if not rows.height:
        raise DataError(f"{text.path}: the file holds no rows")
    parts = rows["line"].str.split_exact(",", _RATING_PLACE).struct.unnest()
    parts.columns = ["user", "rating", "time"]
    numbers = rows["number"]
    return RawTable(
        parts.with_columns(rows["item"]),
        lambda row: f"{text.path}, line {numbers[row]}",
        text.path.name,
        text.size,
        text.sha256,
        str(text.path),
    )


def _is_json(path: Path) -> bool:
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    return bool(endings) and (endings[-1] in JSON_ENDINGS or (len(endings) > 1 and endings[-2] in JSON_ENDINGS))


def _json_rows(text: Text) -> RawTable:
    """JSON lines, an object each, or one list of objects. Numbers and text keep what was written."""
    whole = text.data.lstrip()[:1] == b"["
    what = "entry" if whole else "line"
    numbers: list[int] = []
    rows: list[Mapping[str, object]] = []
    if whole:
        try:
            entries = [(number, entry) for number, entry in enumerate(_parsed(text.data), 1)]
        except ValueError as error:
            raise DataError(f"{text.path}: no valid JSON: {error}") from error
    else:
        entries = []
        for number, line in enumerate(text.data.split(b"\n"), 1):
            if line.strip():
                try:
                    entries.append((number, _parsed(line)))
                except ValueError as error:
                    raise DataError(f"{text.path}, line {number}: no valid JSON: {error}") from error
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f'{text.path}, {what} {number}: expected an object with names, such as {{"user": 1}}')
        numbers.append(number)
        rows.append(entry)
    if not rows:
        raise DataError(f"{text.path}: the file holds no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    frame = pl.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})
    return RawTable(
        frame,
        lambda row: f"{text.path}, {what} {numbers[row]}",
        text.path.name,
        text.size,
        text.sha256,
        str(text.path),
    )


class _Number(str):
    """A number as it is written."""


class _Float(_Number):
    """A number with a point or an exponent."""


def _parsed(data: bytes) -> Any:
    # Numbers stay text, so that none loses a digit.
    return json.loads(data, parse_int=_Number, parse_float=_Float)


def _column(values: Sequence[object]) -> pl.Series:
    """A column of text, or of floats if all are numbers and one is a float; what is neither becomes null."""
    known = [value for value in values if value is not None]
    text = pl.Series([str(value) if isinstance(value, str) else None for value in values], dtype=pl.String)
    floats = any(isinstance(value, _Float) for value in known) and all(isinstance(value, _Number) for value in known)
    return text.cast(pl.Float64) if floats else text
