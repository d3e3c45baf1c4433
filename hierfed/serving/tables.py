"""Tables that callers give, as polars has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hierfed.errors import HierfedError


def frame_with(rows: Any, columns: Sequence[str], what: str) -> pl.DataFrame:
    """A table that has these columns, as `as_frame` reads it; raises HierfedError, which says `what`, for any other."""
    found = as_frame(rows)
    missing = [name for name in columns if name not in found.columns]
    if missing:
        raise HierfedError(f"{what}: no column '{missing[0]}'; expected {', '.join(columns[:-1])} and {columns[-1]}")
    return found


def as_frame(rows: Any) -> pl.DataFrame:
    """A table as polars has it: a frame of polars or pandas, or a mapping of columns.

    Raises HierfedError for anything else.
    """
    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    if isinstance(rows, pl.DataFrame):
        return rows
    try:
        names = list(rows if isinstance(rows, Mapping) else rows.columns)
        return pl.DataFrame({str(name): _column(str(name), rows[name]) for name in names})
    except (AttributeError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise HierfedError(
            f"a table of {type(rows).__name__}: expected a frame of polars or pandas, or a mapping of columns"
        ) from error


def _column(name: str, values: Any) -> list[Any]:
    """A column as a list; ratings are numbers with fractions, though the first of them be whole."""
    return [float(value) for value in values] if name == "rating" else list(values)
