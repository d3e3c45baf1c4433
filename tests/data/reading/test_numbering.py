"""Dense numbers by ascending id, whichever way they are found."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.reading.numbering import array, number

many = settings(max_examples=100, deadline=None)
close = st.lists(st.integers(-30, 30), min_size=1, max_size=80)
sparse = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20)


@many
@given(st.one_of(close, sparse, close.map(lambda ids: [10**12 + each for each in ids])), st.integers(1, 80))
def test_whole_numbers_are_numbered_by_rank(ids, cut):
    series = pl.concat([pl.Series("user", ids[:cut], dtype=pl.Int64), pl.Series("user", ids[cut:], dtype=pl.Int64)])
    found = number(series)
    distinct, numbers = found.ids, found.numbers
    expected, inverse = np.unique(np.array(ids), return_inverse=True)
    assert distinct.to_list() == expected.tolist()
    assert distinct.dtype == pl.Int64
    assert numbers.dtype == np.int32
    np.testing.assert_array_equal(numbers, inverse)


def rank(text: str) -> tuple[bool, int, bytes]:
    """Plain numbers by size, then all else by its bytes."""
    plain = text == "0" or (text.removeprefix("-")[:1] in set("123456789") and text.removeprefix("-").isdecimal())
    plain = plain and text.isascii()
    return not plain, int(text) if plain else 0, text.encode()


@many
@given(st.lists(st.text(max_size=3) | st.text("-+01९", max_size=3), min_size=1, max_size=30))
def test_text_is_numbered_by_rank(ids):
    found = number(pl.Series(ids))
    distinct, numbers = found.ids, found.numbers
    assert distinct.to_list() == sorted(set(ids), key=rank)
    assert [distinct[place] for place in numbers.tolist()] == ids


def test_narrow_ids_are_told_as_int64():
    found = number(pl.Series([100, -100, 100], dtype=pl.Int8))
    assert (found.ids.dtype, found.ids.to_list(), found.numbers.tolist()) == (pl.Int64, [-100, 100], [1, 0, 1])


def test_narrow_ids_that_lie_close_are_told_apart():
    ids = np.concatenate([np.arange(-100, 101)] * 2)
    found = number(pl.Series(ids, dtype=pl.Int8))
    assert found.ids.to_list() == list(range(-100, 101))
    np.testing.assert_array_equal(found.numbers, ids + 100)


def test_an_array_is_one_s_own():
    column = pl.concat([pl.Series([1, 2]), pl.Series([3])])
    made = array(column)
    made[0] = 9
    assert (made.tolist(), column.to_list()) == ([9, 2, 3], [1, 2, 3])
