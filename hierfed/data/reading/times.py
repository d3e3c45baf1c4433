"""Times in a user's own form, as seconds since 1970."""

from __future__ import annotations

import re

import polars as pl

# The last second of year 2261. Later times are milliseconds, or no times at all.
LATEST_TIME = 9_214_646_399
UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
EXPECTED = (
    "a time in seconds since 1970, before year 2262 (all times may be in milliseconds), an ISO 8601 date such as "
    "2020-12-31T23:59:59.5+01:00, or text as --time-format says"
)
_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_WORDS = re.compile("yyyy|yy|dd|mm|hh|ss", re.IGNORECASE)
_DIRECTIVES = {"yyyy": "%Y", "yy": "%y", "dd": "%d", "hh": "%H", "ss": "%S"}


def seconds_of(raw: pl.Series, time_format: str = "") -> pl.Series:
    """A column of times as int64 seconds since 1970, null for what is no time.

    Numbers are seconds, or a finer unit if all are too large; see `unit_of_times`. Text is ISO 8601, where no
    zone means UTC, or numbers.

    time_format: of text; see `directives`.
    """
    if raw.dtype in (pl.Date, pl.Datetime):
        return raw.dt.epoch("s")
    if raw.dtype == pl.String and time_format:
        return _written(raw.str.strip_chars(), directives(time_format))
    numbers = _numbers(raw)
    unit = UNITS.get(_unit(numbers), 1)
    seconds = numbers if unit == 1 else numbers // unit
    if raw.dtype == pl.String and seconds.null_count():
        seconds = pl.select(pl.coalesce(seconds, _iso_seconds(raw))).to_series()
    return seconds


def unit_of_times(raw: pl.Series, time_format: str = "") -> str:
    """The unit that numbers of times are taken for, by their size: `seconds`, unless all of them are in a finer one."""
    if raw.dtype in (pl.Date, pl.Datetime) or (raw.dtype == pl.String and time_format):
        return "seconds"
    return _unit(_numbers(raw))


def directives(time_format: str) -> str:
    """A format as strptime has it: `%d/%m/%Y` as it is, `dd/mm/yyyy hh:mm:ss` by its words.

    >>> directives("dd.mm.yyyy hh:mm")
    '%d.%m.%Y %H:%M'
    """
    if "%" in time_format:
        return time_format
    hours = re.search("hh", time_format, re.IGNORECASE)

    def directive(word: re.Match[str]) -> str:
        if word.group().lower() == "mm":
            return "%M" if hours is not None and word.start() > hours.start() else "%m"
        return _DIRECTIVES[word.group().lower()]

    return _WORDS.sub(directive, time_format)


def _written(text: pl.Series, form: str) -> pl.Series:
    try:
        if "z" in form.replace("%%", ""):
            return text.str.to_datetime(form, strict=False, time_zone="UTC").dt.epoch("s")
        return text.str.to_datetime(form, strict=False).dt.epoch("s")
    # A format without a day, or one that is none.
    except pl.exceptions.PolarsError:
        return pl.Series([None] * len(text), dtype=pl.Int64)


def _unit(numbers: pl.Series) -> str:
    limits = pl.select(pl.lit(numbers.min(), pl.Int64), highest=pl.lit(numbers.max(), pl.Int64)).row(0)
    if None in limits:
        return "seconds"
    for name, unit in UNITS.items():
        if LATEST_TIME * unit // 1000 < limits[0] and limits[1] <= LATEST_TIME * unit:
            return name
    return "seconds"


def _numbers(raw: pl.Series) -> pl.Series:
    """As int64; null if the value is no whole number."""
    numbers = _whole(raw)
    if raw.dtype != pl.String or not numbers.null_count():
        return numbers
    return pl.select(pl.coalesce(numbers, _whole(raw.str.strip_chars().cast(pl.Float64, strict=False)))).to_series()


def _whole(raw: pl.Series) -> pl.Series:
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
    text = raw.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d)[Tt]", "${1} ")
    text = text.str.replace(r"\s*(Z|z|UTC|GMT)$", "").str.replace(r"\s+([+-]\d\d:?\d\d)$", "${1}")
    zoned = (
        text.str.to_datetime(f"{form}%#z", strict=False, time_zone="UTC").dt.replace_time_zone(None)
        for form in _ISO[:2]
    )
    read = [*zoned, *(text.str.to_datetime(form, strict=False) for form in _ISO)]
    read.append(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    return pl.select(pl.coalesce(read)).to_series().dt.epoch("s")
