"""The checks that every rating passes before it is used. Each failure is one line with file, row and column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from hierfed.data.ids import compact
from hierfed.data.reading.numbering import limits
from hierfed.errors import DataError

# The last second of year 2261. Later times are milliseconds, or no times at all.
LATEST_TIME = 9_214_646_399
_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
_SHOWN = 60
_SIGNED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64)
FLOAT_IDS = (
    "text or whole numbers as ids: 7 and 7.0 would be two; write whole numbers, in pandas with astype('Int64'), in SQL "
    "with CAST(... AS bigint)"
)


@dataclass(frozen=True)
class Rules:
    """The requirements on a source's ratings: their range in stars."""

    low: float = -np.inf
    high: float = np.inf


def check_column(role: str, raw: pl.Series, name: str, place: Callable[[int], str], rules: Rules) -> pl.Series:
    """Parse and check the column of one role: user, item, rating or time.

    raw: of any type.
    name: the file's own name of the column, for messages.
    place: gives the place of row r, for messages.
    Raises DataError at the first invalid id, rating or time.
    """
    if role == "rating":
        return parse_ratings(raw, name, place, rules)
    if role == "time":
        return parse_times(raw, name, place)
    return parse_ids(raw, name, place)


def parse_ids(raw: pl.Series, name: str, place: Callable[[int], str]) -> pl.Series:
    """Ids in the form of hierfed.data.ids: text as written, without surrounding white space, or whole numbers.

    Signed integers keep their type. Decimal columns become their shortest decimal text. Raises DataError for floats.
    """
    if raw.dtype.is_float():
        raise DataError(f"{place(0)}, column {name}: found {raw.dtype}, expected {FLOAT_IDS}")
    fits = raw.dtype.is_integer() or raw.dtype.is_decimal() or raw.dtype in _TEXT_TYPES
    _refuse_type(raw, fits, name, "ids (text or whole numbers)", place)
    if raw.dtype in _SIGNED and not raw.null_count():
        return raw
    text = raw.cast(pl.String).str.strip_chars()
    if raw.dtype.is_decimal():
        text = text.str.replace(r"(\.[0-9]*[1-9])0+$", "${1}").str.replace(r"\.0+$", "")
    refuse(raw, text.is_null() | (text == ""), name, "an id", place)
    return compact(text)


def parse_ratings(raw: pl.Series, name: str, place: Callable[[int], str], rules: Rules) -> pl.Series:
    """Ratings as float64, or float32 if the file has that type, finite and within the rules' range."""
    _refuse_type(raw, raw.dtype.is_numeric() or raw.dtype == pl.String, name, "numbers", place)
    if raw.dtype == pl.Float32 and raw.is_finite().all(ignore_nulls=False) and _within(raw, rules.low, rules.high):
        return raw
    values = _numbers(raw)
    bounded = np.isfinite(rules.low)
    expected = f"a number from {rules.low:g} to {rules.high:g}" if bounded else "a finite number"
    # Ratings are kept as float32, so they must be finite in that type.
    finite = values.cast(pl.Float32, strict=False).is_finite()
    wrong = values.is_null() | ~finite | (values < rules.low) | (values > rules.high)
    refuse(raw, wrong.fill_null(True), name, expected, place)
    return values


def parse_times(raw: pl.Series, name: str, place: Callable[[int], str]) -> pl.Series:
    """Times as int64 seconds since 1970, from whole numbers of seconds or from ISO 8601 dates."""
    dated = raw.dtype in (pl.Date, pl.Datetime)
    _refuse_type(raw, dated or raw.dtype.is_numeric() or raw.dtype == pl.String, name, "times", place)
    seconds = raw.dt.epoch("s") if dated else _integers(raw)
    if _within(seconds, 0, LATEST_TIME):
        return seconds
    if raw.dtype == pl.String and seconds.null_count():
        read = (seconds, _integers(_numbers(raw)), _iso_seconds(raw))
        seconds = pl.select(pl.coalesce(read)).to_series()
    wrong = seconds.is_null() | (seconds < 0) | (seconds > LATEST_TIME)
    refuse(raw, wrong.fill_null(True), name, "a time in seconds since 1970, before year 2262", place)
    return seconds


def refuse(raw: pl.Series, wrong: pl.Series, name: str, expected: str, place: Callable[[int], str]) -> None:
    """Raise DataError for the first row that is `wrong`."""
    if not wrong.any():
        return
    row = int(wrong.arg_true()[0])
    found = raw[row]
    shown = "nothing" if found is None or found == "" else repr(found) if isinstance(found, str) else str(found)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    raise DataError(f"{place(row)}, column {name}: found {shown}, expected {expected}")


def _within(numbers: pl.Series, low: float, high: float) -> bool:
    """True if there is no null and all numbers lie within the limits. It makes no column of answers."""
    if numbers.null_count() or not len(numbers):
        return not len(numbers)
    lowest, highest = limits(numbers)
    return bool(low <= lowest and highest <= high)


def _refuse_type(raw: pl.Series, fits: bool, name: str, expected: str, place: Callable[[int], str]) -> None:
    if not fits:
        raise DataError(f"{place(0)}, column {name}: found values of type {raw.dtype}, expected {expected}")


def _numbers(raw: pl.Series) -> pl.Series:
    text = raw.str.strip_chars() if raw.dtype == pl.String else raw
    return text.cast(pl.Float64, strict=False)


def _integers(raw: pl.Series) -> pl.Series:
    """As int64; null if the value is no whole number or does not fit."""
    if raw.dtype.is_integer():
        return raw.cast(pl.Int64, strict=False)
    if not raw.dtype.is_numeric():
        return raw.cast(pl.String).str.strip_chars().cast(pl.Int64, strict=False)
    numbers = raw.cast(pl.Float64)
    # Beyond 2^53, floats cannot represent every whole number.
    exact = (numbers % 1 == 0) & (numbers.abs() < 2.0**53)
    return numbers.zip_with(exact, pl.Series([None], dtype=pl.Float64)).cast(pl.Int64)


def _iso_seconds(raw: pl.Series) -> pl.Series:
    text = raw.str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")
    read = [
        text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", strict=False, time_zone="UTC").dt.replace_time_zone(None),
        text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False),
        text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")),
    ]
    return pl.select(pl.coalesce(read)).to_series().dt.epoch("s")
