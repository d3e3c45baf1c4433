"""Each user's last rows, chosen by cells, are those that a sort of all rows chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data import last_rows

few = settings(max_examples=150, deadline=None)


def by_sort(user: np.ndarray, key: np.ndarray, share: float) -> np.ndarray:
    """All rows sorted by user, key and place; the last of each user are chosen."""
    order = np.lexsort((key, user))
    counts = np.bincount(user)
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(user))
    wanted = np.minimum(np.maximum(1, np.round(share * counts)), counts - 1)
    chosen = np.empty(len(user), bool)
    chosen[order] = from_end <= wanted[user[order]]
    return chosen


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Users with 1 to 300 rows, listed together or mixed; keys by lot, few and often equal, or far apart."""
    counts = draw(st.lists(st.integers(1, 300), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    user = np.repeat(2 * np.arange(len(counts)) + 1, counts).astype(np.int32)
    if draw(st.booleans()):
        user = rng.permutation(user)
    kind = draw(st.sampled_from(["lot", "few", "same", "far", "times"]))
    if kind == "lot":
        return user, rng.random(len(user))
    if kind == "times":
        return user, 10**9 + rng.integers(0, 10**4, len(user)) ** 2
    spread = {"few": 3, "same": 1, "far": 9 * 10**9}[kind]
    return user, rng.integers(0, spread, len(user)) * rng.integers(0, 2, len(user))


@few
@given(rows(), st.floats(0.01, 0.99))
def test_the_last_rows_are_those_of_a_sort(found, share):
    user, key = found
    np.testing.assert_array_equal(last_rows.last_of_each_user(user, key, share), by_sort(user, key, share))


@pytest.mark.parametrize("block", [1, 10, 50, 1000])
def test_blocks_do_not_matter(monkeypatch, block):
    rng = np.random.default_rng(1)
    user, key = np.sort(rng.integers(0, 12, 400)), rng.random(400)
    monkeypatch.setattr(last_rows, "_BLOCK", block)
    np.testing.assert_array_equal(last_rows.last_of_each_user(user, key, 0.3), by_sort(user, key, 0.3))


@pytest.mark.parametrize("mixed", [False, True])
def test_keys_that_are_drawn_are_those_that_are_given(monkeypatch, mixed):
    rng = np.random.default_rng(1)
    user = rng.integers(0, 40, 600)
    user = user if mixed else np.sort(user)
    monkeypatch.setattr(last_rows, "_BLOCK", 50)
    drawn = last_rows.last_of_each_user(user, np.random.default_rng(2).random, 0.3)
    np.testing.assert_array_equal(drawn, by_sort(user, np.random.default_rng(2).random(600), 0.3))


def test_of_no_rows_none_is_last():
    assert len(last_rows.last_of_each_user(np.empty(0, np.int32), np.empty(0), 0.5)) == 0
