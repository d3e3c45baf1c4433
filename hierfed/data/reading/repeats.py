"""Detection of (user, item) pairs that occur twice, block by block without sorting."""

from __future__ import annotations

import numpy as np

from hierfed.data.grouping import by_group, is_grouped, on_threads

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
