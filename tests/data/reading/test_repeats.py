"""A pair that stands twice is seen, wherever its rows are, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.reading import repeats

many = settings(max_examples=200, deadline=None)
# Items so far apart that a block's pairs take 64 bits, or so near that they take 32.
pairs = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 2, 3, 5, 8, 2**30, 2**31 - 1])), max_size=40)


@many
@given(pairs, st.booleans(), st.sampled_from([1, 4, 1000]), st.sampled_from([1, 3, 18]))
def test_repeats_are_seen_whatever_the_order_the_blocks_and_the_slots(found, listed_by_user, block, bits):
    rows = sorted(found, key=lambda pair: pair[0]) if listed_by_user else found
    user, item = (np.array([row[part] for row in rows], np.int32) for part in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_BLOCK", block)
        patch.setattr(repeats, "_SLOT_BITS", bits)
        assert repeats.has_repeats(user, item) == (len(set(found)) < len(found))


def test_one_repeat_among_many_rows_is_seen():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(200, dtype=np.int32), 300)
    item = np.concatenate([rng.choice(5000, 300, replace=False) for _ in range(200)]).astype(np.int32)
    assert not repeats.has_repeats(user, item)
    item[45_299] = item[45_000]
    assert repeats.has_repeats(user, item)


def test_more_rows_of_one_user_than_a_block_holds():
    rng = np.random.default_rng(0)
    item = rng.permutation(100_000).astype(np.int32)
    user = np.zeros(len(item), np.int32)
    assert not repeats.has_repeats(user, item)
    item[70_000] = item[3]
    assert repeats.has_repeats(user, item)
