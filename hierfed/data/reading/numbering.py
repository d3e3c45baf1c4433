"""Numbering of users and items from 0, without gaps, by ascending id; see hierfed.data.ids for the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hierfed.data.grouping import blocks, look_up
from hierfed.data.ids import ascending

# Whole numbers are numbered by counting if their range has at most so many entries per rating.
_SPARSEST = 4


@dataclass(frozen=True, eq=False)
class Numbered:
    """A column of ids: the distinct ids, ascending (int64 or text), and each row's number among them (int32)."""

    ids: pl.Series
    numbers: np.ndarray


def number(ids: pl.Series) -> Numbered:
    """The ids numbered by their rank."""
    if ids.dtype.is_integer() and len(ids):
        lowest, highest = limits(ids)
        if highest - lowest < _SPARSEST * len(ids):
            return _count(ids, lowest, highest)
    distinct = ids.unique()
    distinct = distinct[ascending(distinct)]
    places = pl.DataFrame({"id": distinct, "number": np.arange(len(distinct), dtype=np.int32)})
    joined = pl.DataFrame({"id": ids}).join(places, on="id", how="left", maintain_order="left")
    return Numbered(distinct if distinct.dtype == pl.String else distinct.cast(pl.Int64), array(joined["number"]))


def join_numbered(columns: Sequence[Numbered]) -> Numbered:
    """The columns one after the other; ids become text if any column's are."""
    if len(columns) == 1:
        return columns[0]
    kind = pl.String if any(column.ids.dtype == pl.String for column in columns) else pl.Int64
    every = number(pl.concat([column.ids.cast(kind) for column in columns]))
    ranks = np.split(every.numbers, np.cumsum([len(column.ids) for column in columns])[:-1])
    numbers = [look_up(rank, column.numbers) for rank, column in zip(ranks, columns, strict=True)]
    return Numbered(every.ids, np.concatenate(numbers))


def compress(numbers: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers below `total` that occur, and the place of each number among those (int32)."""
    present = np.zeros(total, bool)
    present[numbers] = True
    return np.flatnonzero(present), look_up(_places(present), numbers)


def limits(numbers: pl.Series) -> tuple[Any, Any]:
    """The lowest and the highest of one or more numbers, none of them null."""
    return numbers.min(), numbers.max()


def array(column: pl.Series) -> np.ndarray:
    """A column without nulls as a new, writable array, made with one copy."""
    return np.concatenate([chunk.to_numpy() for chunk in column.get_chunks()])


def _count(ids: pl.Series, lowest: int, highest: int) -> Numbered:
    """`number` for whole numbers from `lowest` to `highest`, piece by piece as polars reads them."""
    present = np.zeros(highest - lowest + 1, bool)
    chunks = [chunk.to_numpy() for chunk in ids.get_chunks()]
    pieces = [chunk[block] for chunk in chunks for block in blocks(len(chunk))]
    for piece in pieces:
        present[np.subtract(piece, lowest, dtype=np.int64)] = True
    places, numbers, done = _places(present), np.empty(len(ids), np.int32), 0
    for piece in pieces:
        # No number is out of bounds, and clipping is faster than checking.
        places.take(np.subtract(piece, lowest, dtype=np.int64), out=numbers[done : done + len(piece)], mode="clip")
        done += len(piece)
    return Numbered(pl.Series(ids.name, np.flatnonzero(present) + lowest), numbers)


def _places(present: np.ndarray) -> np.ndarray:
    return np.cumsum(present, dtype=np.int32) - np.int32(1)
