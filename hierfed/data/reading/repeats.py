"""Detection of (user, item) pairs that occur twice, block by block without sorting; and what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from hierfed.data.grouping import by_group, is_grouped, on_threads
from hierfed.data.reading.rating_part import RatingPart
from hierfed.errors import DataError

# Rows of a block, and slots for their hashes: enough for few collisions, few enough for a core's cache.
_BLOCK = 1 << 15
_SLOT_BITS = 19
# The golden ratio's fraction of 2^64: multiples of it spread over the upper bits (Knuth, 6.4).
_SPREAD = 0x9E3779B97F4A7C15


def has_repeats(user: np.ndarray, item: np.ndarray) -> bool:
    """True if two rows have the same user and item; both are numbered from 0."""
    if not len(user):
        return False
    if not is_grouped(user):
        order = by_group(user, int(user.max()) + 1)
        rows = order.rows(slice(0, len(order)))
        return has_repeats(user[rows], item[rows])
    items = int(item.max()) + 1
    # Blocks of whole users, since no pair occurs in two of them.
    starts = np.unique(np.searchsorted(user, user[::_BLOCK]))

    def repeated(block: slice) -> bool:
        first, last = int(user[block.start]), int(user[block.stop - 1])
        kind = np.uint32 if (last - first + 1) * items < 1 << 32 else np.uint64
        keys = (user[block] - user[block.start]).astype(kind)
        keys *= kind(items)
        keys += item[block].astype(kind)
        return _repeats(keys)

    return any(on_threads(repeated, map(slice, starts, [*starts[1:], len(user)])))


def _repeats(keys: np.ndarray) -> bool:
    """True if a key (uint32 or uint64) occurs twice.

    If keys ascend strictly, none does. Else each row writes its number into the slot of its key's hash. Of two rows
    with one key, at least one then finds a later row's number there: the other row's, or both find a third row's.
    """
    if (keys[1:] > keys[:-1]).all():
        return False
    bits = 8 * keys.itemsize
    slots = ((keys * keys.dtype.type(_SPREAD >> (64 - bits))) >> keys.dtype.type(bits - _SLOT_BITS)).astype(np.intp)
    numbers = np.arange(len(keys), dtype=np.min_scalar_type(len(keys)))
    owner = np.empty(1 << _SLOT_BITS, numbers.dtype)
    owner[slots] = numbers
    found = owner.take(slots, mode="clip")
    lost = np.flatnonzero(found != numbers)
    beaten = keys[lost]
    if (keys[found[lost]] == beaten).any():
        return True
    beaten.sort()
    return bool((beaten[1:] == beaten[:-1]).any())


def without_repeats(part: RatingPart, how: str, *, ordered: bool = True) -> RatingPart:
    """The part with one rating for each user and item, and the number of rows that this leaves out.

    how: `error` leaves the part as it is; `first` and `last` keep the row of the first or the last time, among equal
    times and where there are none by the order of the rows; `mean` keeps the mean rating, with the last time.
    ordered: True if the rows have an order of their own; a database's have none.
    Raises DataError if the first or the last of a database's rows is asked for, and they have no times.
    """
    if how == "error" or not has_repeats(part.user.numbers, part.item.numbers):
        return part
    if part.time is None and not ordered and how != "mean":
        raise DataError(
            f"{part.place(0)}: --repeats {how}: rows of a database have no order, and these have no times; select a "
            "time, or take --repeats mean"
        )
    rows = pl.DataFrame({"user": part.user.numbers, "item": part.item.numbers, "value": part.value}).with_row_index(
        "row"
    )
    if part.time is not None:
        rows = rows.with_columns(time=part.time).sort("time", maintain_order=True)
    pairs = rows.group_by("user", "item", maintain_order=True)
    kept = pl.first("row") if how == "first" else pl.last("row")
    found = pairs.agg(kept, mean=pl.col("value").cast(pl.Float64).mean()).sort("row")
    chosen = found["row"].to_numpy()
    kept_part = part.take(chosen)
    value = found["mean"].to_numpy().astype(np.float32) if how == "mean" else kept_part.value
    dropped = {**part.dropped, f"rated again (repeats: {how})": len(part) - len(chosen)}
    return replace(kept_part, value=value, dropped=dropped)
