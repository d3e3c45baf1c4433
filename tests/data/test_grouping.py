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
numbers = st.lists(st.one_of(st.integers(0, 9), st.integers(65530, 65540), st.integers(0, 10**6)), max_size=60)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Pieces of seven rows, so that a few dozen rows are several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "BLOCK", 7)
        yield


@many
@given(numbers)
def test_rows_by_group_are_a_stable_sort(found):
    group = np.array(found, np.int32)
    ordered, offsets = grouping.by_group(group, 10**6 + 1)
    np.testing.assert_array_equal(ordered, np.argsort(group, kind="stable"))
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(group, minlength=10**6 + 1))
    assert offsets[0] == 0


@many
@given(numbers)
def test_rows_by_group_stand_for_what_they_are_told_to(found):
    group = np.array(found, np.int32)
    rows = 3 * np.arange(len(group)) + 5
    ordered, _ = grouping.by_group(group, 10**6 + 1, rows)
    np.testing.assert_array_equal(ordered, rows[np.argsort(group, kind="stable")])


@many
@given(numbers)
def test_counts_and_distinct_numbers_are_those_of_numpy(found):
    group = np.array(found, np.int32)
    np.testing.assert_array_equal(grouping.count(group), np.bincount(group))
    np.testing.assert_array_equal(grouping.count(group, 5), np.bincount(group, minlength=5))
    np.testing.assert_array_equal(grouping.distinct(group), np.unique(group))
    assert grouping.is_grouped(group) == (found == sorted(found))


def test_a_fall_between_two_pieces_is_seen():
    assert grouping.is_grouped(np.array([1] * 7 + [2] * 7))
    assert not grouping.is_grouped(np.array([2] * 7 + [1] * 7))


def test_many_rows_are_taken_as_few_are(monkeypatch):
    rng = np.random.default_rng(0)
    ratings = Ratings(*(rng.integers(0, 99, 200).astype(kind) for kind in (np.int32, np.int32, np.float32, np.int64)))
    rows = rng.integers(0, 200, 300)
    few = ratings.take(rows)
    monkeypatch.setattr("hierfed.data.ratings._MANY", 1)
    lot = ratings.take(rows)
    for name in ("user", "item", "value", "time"):
        np.testing.assert_array_equal(getattr(lot, name), getattr(few, name))
        assert getattr(lot, name).dtype == getattr(few, name).dtype
    for wrong in (-1, 200):
        with pytest.raises(IndexError):
            ratings.take(np.array([0, wrong]))
