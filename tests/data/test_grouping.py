"""Groups, counts and orders are those of NumPy's sorts, in pieces or at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data import grouping
from hierfed.data.ratings import Ratings

many = settings(max_examples=100, deadline=None)
# Numbers of more than 16 bits take a second digit.
numbers = st.lists(st.one_of(st.integers(0, 9), st.integers(65530, 65540), st.integers(0, 10**5)), max_size=60)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Pieces of seven rows, so that a few dozen rows are several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "BLOCK", 7)
        yield


@many
@given(numbers, st.randoms(use_true_random=False))
def test_some_rows_by_group_are_ordered_as_if_they_stood_alone(found, random):
    group = np.array(found, np.int32)
    rows = np.array(random.sample(range(len(found)), len(found) // 2), np.int32)
    some, alone = grouping.by_group(group, 10**5 + 1, rows), grouping.by_group(group[rows], 10**5 + 1)
    np.testing.assert_array_equal(some.offsets, alone.offsets)
    if len(rows):
        every = slice(0, len(rows))
        np.testing.assert_array_equal(some.rows(every), alone.rows(every))


@many
@given(numbers, st.integers(1, 60))
def test_rows_by_group_are_a_stable_sort_wherever_they_are_cut(found, cut):
    group = np.array(found, np.int32)
    order, expected = grouping.by_group(group, 10**5 + 1), np.argsort(group, kind="stable")
    assert len(order) == len(group)
    for start in range(0, len(group), cut):
        places = slice(start, min(start + cut, len(group)))
        np.testing.assert_array_equal(order.rows(places), expected[places])
    np.testing.assert_array_equal(np.diff(order.offsets), np.bincount(group, minlength=10**5 + 1))
    assert order.offsets[0] == 0


@many
@given(numbers)
def test_counts_and_distinct_numbers_are_those_of_numpy(found):
    group = np.array(found, np.int32)
    np.testing.assert_array_equal(grouping.count(group), np.bincount(group))
    np.testing.assert_array_equal(grouping.count(group, 5), np.bincount(group, minlength=5))
    np.testing.assert_array_equal(grouping.distinct(group), np.unique(group))
    assert grouping.is_grouped(group) == (found == sorted(found))


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_a_fall_between_two_pieces_is_seen(kind):
    assert grouping.is_grouped(np.array([1] * 7 + [2] * 7, kind))
    assert not grouping.is_grouped(np.array([2] * 7 + [1] * 7, kind))


@many
@given(st.lists(st.booleans(), max_size=60))
def test_rows_where_a_mask_is_true(found):
    mask = np.array(found, bool)
    rows = grouping.rows_where(mask)
    np.testing.assert_array_equal(rows, np.flatnonzero(mask))
    assert rows.dtype == np.int32


@many
@given(st.lists(st.integers(0, 9), max_size=60))
def test_what_is_looked_up_is_what_stands_there(found):
    table = np.random.default_rng(0).random(10).astype(np.float32)
    looked_up = grouping.look_up(table, np.array(found, np.uint8))
    np.testing.assert_array_equal(looked_up, table[np.array(found, int)])
    assert looked_up.dtype == np.float32


@pytest.mark.parametrize("pieces", range(5))
def test_work_on_threads_is_handed_back_in_order(pieces):
    assert grouping.on_threads(lambda piece: 10 * piece, iter(range(pieces))) == [10 * k for k in range(pieces)]


def test_pieces_are_made_as_threads_are_ready_for_them():
    made, done, ahead = [], [], []

    def pieces():
        for piece in range(100):
            made.append(piece)
            ahead.append(len(made) - len(done))
            yield piece

    grouping.on_threads(done.append, pieces())
    assert sorted(done) == list(range(100))
    assert max(ahead) <= 3


def test_what_goes_wrong_on_a_thread_is_raised():
    def fail(piece):
        raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match="piece"):
        grouping.on_threads(fail, range(5))


@pytest.mark.parametrize("kind", [np.int64, bool])
def test_rows_are_taken_as_numpy_takes_them(kind):
    rng = np.random.default_rng(0)
    ratings = Ratings(*(rng.integers(0, 99, 200).astype(kind) for kind in (np.int32, np.int32, np.float32, np.int64)))
    rows = rng.integers(0, 2, 200).astype(bool) if kind is bool else rng.integers(0, 200, 300)
    taken = ratings.take(rows)
    for name in ("user", "item", "value", "time"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(ratings, name)[rows])
        assert getattr(taken, name).dtype == getattr(ratings, name).dtype
    assert len(ratings.take(rows[:0])) == 0
    for wrong in (-1, 200):
        with pytest.raises(IndexError):
            ratings.take(np.array([0, wrong]))
