"""Ids are text, exactly as written: `7`, `007`, `+7` and `7.0` are four different ids.

A column is int64 if each of its ids is the plain decimal text of a number that fits, and text otherwise. So the number
7 of an integer column and the text `7` are one id, whatever column holds them.
"""

from __future__ import annotations

import polars as pl

_EXAMPLES = 2
_SHOWN = 40


def compact(text: pl.Series) -> pl.Series:
    """Ids that are text, as int64 if that loses nothing; nulls stay nulls."""
    numbers = text.cast(pl.Int64, strict=False)
    lossless = numbers.null_count() == text.null_count() and (numbers.cast(pl.String) == text).all()
    return numbers if lossless else text


def alike(ids: pl.Series, others: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Two columns of ids in one type, so that they can be compared: text if either is text."""
    if pl.String in {ids.dtype, others.dtype}:
        return ids.cast(pl.String), others.cast(pl.String)
    return ids.cast(pl.Int64), others.cast(pl.Int64)


def ascending(ids: pl.Series) -> pl.Series:
    """The rows of the ids in order: plain numbers by size, then all other text by its bytes.

    The order of two ids depends neither on other ids nor on the type of the column.
    """
    if ids.dtype != pl.String:
        return ids.arg_sort()
    numbers = ids.cast(pl.Int64, strict=False)
    plain = (numbers.cast(pl.String) == ids).fill_null(False)
    keys = pl.DataFrame({"number": numbers.set(~plain, None), "text": ids})
    return keys.select(pl.arg_sort_by("number", "text", nulls_last=True)).to_series()


def places(ids: pl.Series, among: pl.Series) -> pl.Series:
    """The row of each id among others: int64, null if it is not there.

    among: distinct ids.
    """
    wanted, others = alike(ids, among)
    table = pl.DataFrame({"id": others, "row": pl.int_range(len(others), eager=True)})
    return pl.DataFrame({"id": wanted}).join(table, on="id", how="left", maintain_order="left")["row"]


def strangers(ids: pl.Series, known: pl.Series, what: str, where: str) -> str:
    """A warning if more than half of the ids are not among the known ones; else empty.

    ids: distinct ids.
    what: the ids in words, as "user ids of test rows".
    where: the place of the known ids, in words.
    """
    unknown = ids.filter(places(ids, known).is_null())
    if 2 * len(unknown) <= len(ids):
        return ""
    return (
        f"{len(unknown):,} of {len(ids):,} {what} are not in {where}: not there are {_examples(unknown)}, there are "
        f"{_examples(known)}, for instance; ids are compared as they are written"
    )


def _examples(ids: pl.Series) -> str:
    shown = (str(each) for each in ids.head(_EXAMPLES))
    return " and ".join(repr(each if len(each) <= _SHOWN else f"{each[:_SHOWN]}...") for each in shown)
