"""Detection of codes among ratings, such as -1 for seen and not rated."""

from __future__ import annotations

import numpy as np
import polars as pl

# The least share of rows of a suspected code; rarer ones change little.
_NOTABLE = 0.01
_LEAST_OTHERS = 3
_GRID = 1e-4
_FAR = 1.5
# A zero at the end of an even scale is a code if its share is this large, and this many times its neighbour's.
_COMMON_ZERO, _TIMES_ITS_NEIGHBOUR = 0.1, 10.0


def code_warning(value: np.ndarray) -> str:
    """A line on the lowest or highest value if it stands apart from the scale of the others; else "".

    A value stands apart if it holds 1% of the rows or more, there are three other values or more, and one of these
    holds:

    - it alone is negative, and the others lie on an even scale (-1 beside 1 to 10);
    - its distance from the others is at least 1.5 times their own range (99 beside 1 to 5);
    - it is a lowest 0 next to an even scale, holds 10% of the rows, and ten times as many as the rating next to it (0
      beside 1 to 10 in lists of books: read, not rated).
    """
    counted = pl.Series("value", value).value_counts(sort=False).sort("value")
    values, rows = counted["value"].to_numpy().astype(np.float64), counted["count"].to_numpy()
    if len(values) <= _LEAST_OTHERS:
        return ""
    for place, others, next_to_it in ((0, slice(1, None), 1), (-1, slice(None, -1), -2)):
        found, scale, share = float(values[place]), values[others], rows[place] / rows.sum()
        if share < _NOTABLE:
            continue
        even, span = _is_even(scale), float(scale[-1] - scale[0])
        alone_negative = even and found < 0 <= scale[0]
        far = abs(found - float(values[next_to_it])) >= _FAR * span
        zero = found == 0 and place == 0 and even and share >= _COMMON_ZERO
        common_zero = zero and rows[place] >= _TIMES_ITS_NEIGHBOUR * rows[next_to_it]
        if alone_negative or far or common_zero:
            return (
                f"{rows[place]:,} of {rows.sum():,} ratings ({share:.1%}) are {found:g}, which stands apart from the "
                f"others, {scale[0]:g} to {scale[-1]:g}: if it is a code, such as for 'not rated', leave these rows out"
            )
    return ""


def _is_even(scale: np.ndarray) -> bool:
    """True if all steps between neighbours are whole multiples of the smallest step."""
    steps = np.diff(scale) / np.diff(scale).min()
    return bool(np.all(np.abs(steps - np.round(steps)) <= _GRID * steps))
