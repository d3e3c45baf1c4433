"""The checks that every rating passes before it is used. Each failure is one line with file, row and column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from hierfed.data.ids import compact
from hierfed.data.reading.numbering import limits
from hierfed.data.reading.times import EXPECTED, LATEST_TIME, seconds_of
from hierfed.data.settings import EMPTY, TableSettings
from hierfed.errors import DataError

# Damaged bytes can also make polars panic, which raises no PolarsError.
POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
_SHOWN = 60
_DECIMAL_COMMA = r"^\s*[+-]?[0-9]+,[0-9]+\s*$"
_SIGNED = (pl.Int8, pl.Int16, pl.Int32, pl.Int64)
FLOAT_IDS = (
    "text or whole numbers as ids: 7 and 7.0 would be two; write whole numbers, in pandas with astype('Int64'), in SQL "
    "with CAST(... AS bigint)"
)


@dataclass(frozen=True)
class Rules:
    """The requirements on a source's ratings.

    low, high: their range in stars.
    how: the form of the tables, and what becomes of rows that do not fit.
    """

    low: float = -np.inf
    high: float = np.inf
    how: TableSettings = field(default_factory=TableSettings)

    @property
    def skip(self) -> bool:
        """True if rows that do not fit are left out, rather than an error."""
        return self.how.bad_rows == "skip"


def check_column(role: str, raw: pl.Series, name: str, place: Callable[[int], str], rules: Rules) -> pl.Series:
    """Parse and check the column of one role: user, item, rating or time.

    Where bad rows are skipped, they become null. A rating that says "not rated" becomes NaN.

    raw: of any type.
    name: the file's own name of the column, for messages.
    place: gives the place of row r, for messages.
    Raises DataError at the first invalid id, rating or time.
    """
    if role == "rating":
        return parse_ratings(raw, name, place, rules)
    if role == "time":
        return parse_times(raw, name, place, rules)
    return parse_ids(raw, name, place, rules.skip)


def parse_ids(raw: pl.Series, name: str, place: Callable[[int], str], skip: bool = False) -> pl.Series:
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
    return compact(_settled(text, raw, (text.is_null() | (text == "")).fill_null(True), name, "an id", place, skip))


def parse_ratings(raw: pl.Series, name: str, place: Callable[[int], str], rules: Rules) -> pl.Series:
    """Ratings as float64, or float32 if the file has that type, finite and within the rules' range."""
    _refuse_type(raw, raw.dtype.is_numeric() or raw.dtype == pl.String, name, "numbers", place)
    if raw.dtype == pl.Float32 and raw.is_finite().all(ignore_nulls=False) and _within(raw, rules.low, rules.high):
        return raw
    values = _numbers(raw)
    coded = _coded(raw, values, rules.how.no_rating)
    bounded = np.isfinite(rules.low)
    expected = f"a number from {rules.low:g} to {rules.high:g}" if bounded else "a finite number"
    # Ratings are kept as float32, so they must be finite in that type.
    finite = values.cast(pl.Float32, strict=False).is_finite()
    wrong = (values.is_null() | ~finite | (values < rules.low) | (values > rules.high)).fill_null(True)
    if raw.dtype == pl.String and (wrong & raw.str.contains(_DECIMAL_COMMA).fill_null(False)).any():
        expected += ", with a point and no decimal comma"
    values = _settled(values, raw, wrong & ~coded, name, expected, place, rules.skip)
    return values.set(coded, np.nan) if coded.any() else values


def parse_times(raw: pl.Series, name: str, place: Callable[[int], str], rules: Rules) -> pl.Series:
    """Times as int64 seconds since 1970; see hierfed.data.reading.times."""
    dated = raw.dtype in (pl.Date, pl.Datetime)
    _refuse_type(raw, dated or raw.dtype.is_numeric() or raw.dtype == pl.String, name, "times", place)
    seconds = seconds_of(raw, rules.how.time_format)
    if _within(seconds, 0, LATEST_TIME):
        return seconds
    wrong = (seconds.is_null() | (seconds < 0) | (seconds > LATEST_TIME)).fill_null(True)
    return _settled(seconds, raw, wrong, name, EXPECTED, place, rules.skip)


def _coded(raw: pl.Series, values: pl.Series, codes: Sequence[float | str]) -> pl.Series:
    """True for ratings that say "not rated"."""
    found = values.is_in([code for code in codes if code != EMPTY]).fill_null(False)
    if EMPTY in codes:
        found |= raw.is_null() | ((raw.str.strip_chars() == "") if raw.dtype == pl.String else raw.is_null())
    return found.fill_null(False)


def _settled(
    values: pl.Series,
    raw: pl.Series,
    wrong: pl.Series,
    name: str,
    expected: str,
    place: Callable[[int], str],
    skip: bool,
) -> pl.Series:
    """The values, null where they are wrong and that is no error."""
    if skip and wrong.any():
        return values.set(wrong, None)
    refuse(raw, wrong, name, expected, place)
    return values


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
