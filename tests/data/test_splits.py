"""Splits of random ratings: nothing in two sets, parts that sum to the whole, shares as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data import splits
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError

few = settings(max_examples=60, deadline=None)
shares = st.floats(0.3, 0.7)
seeds = st.integers(0, 2**32)


@st.composite
def ratings(draw: st.DrawFn) -> Ratings:
    """At least 4 users with at least 10 ratings each, users' rows mixed and their numbers with gaps."""
    counts = draw(st.lists(st.integers(10, 25), min_size=4, max_size=12))
    numbers = 3 * np.arange(len(counts)) + 1
    user = np.random.default_rng(draw(seeds)).permutation(np.repeat(numbers, counts)).astype(np.int32)
    return Ratings(user, np.zeros(len(user), np.int32), np.ones(len(user), np.float32))


def parts_of(split: splits.Split) -> list[np.ndarray]:
    return [split.train, split.test, split.personal_train, split.personal_test, split.unused]


@few
@given(ratings(), shares, shares, st.floats(0.3, 1), shares, seeds)
def test_two_groups_are_disjoint_whole_and_as_large_as_asked(rows, federated, train, sample, personal, seed):
    split = splits.two_groups(
        rows,
        federated_users=federated,
        train_rows=train,
        sample=sample,
        personal_train_rows=personal,
        rng=np.random.default_rng(seed),
    )
    whole = np.concatenate(parts_of(split))
    assert sorted(whole.tolist()) == list(range(len(rows)))
    assert all((np.diff(part) > 0).all() for part in parts_of(split))

    first = set(rows.user[np.concatenate([split.train, split.test, split.unused])].tolist())
    second = set(rows.user[np.concatenate([split.personal_train, split.personal_test])].tolist())
    assert not first & second
    assert len(first) == round(federated * len(first | second))

    group = np.isin(rows.user, list(first)).sum()
    learnable = len(split.train) + len(split.unused)
    assert abs(len(split.test) - (1 - train) * group) <= 0.5 + 1e-9
    assert abs(len(split.train) - sample * learnable) <= 0.5 + 1e-9
    assert abs(len(split.personal_train) - personal * (len(rows) - group)) <= 0.5 + 1e-9
    assert split.sizes() == {
        "train": len(split.train),
        "test": len(split.test),
        "personal_train": len(split.personal_train),
        "personal_test": len(split.personal_test),
        "unused": len(split.unused),
    }


def test_every_user_is_as_likely_as_asked_to_be_federated():
    rows = Ratings(np.repeat(np.arange(10), 10).astype(np.int32), np.zeros(100, np.int32), np.ones(100, np.float32))
    draws = 400
    counts = np.zeros(10)
    for seed in range(draws):
        split = splits.two_groups(
            rows,
            federated_users=0.7,
            train_rows=0.7,
            sample=1,
            personal_train_rows=0.8,
            rng=np.random.default_rng(seed),
        )
        counts[np.unique(rows.user[split.train])] += 1
    assert np.abs(counts / draws - 0.7).max() < 5 * np.sqrt(0.7 * 0.3 / draws)


@few
@given(st.lists(st.integers(0, 10**6), unique=True, max_size=60), st.floats(0, 1), seeds)
def test_hold_out_divides_any_rows_into_the_asked_shares(rows, fraction, seed):
    kept, held = splits.hold_out(np.array(rows, np.int64), fraction, np.random.default_rng(seed))
    assert [*kept, *held] == [*sorted(kept), *sorted(held)]
    assert sorted([*kept, *held]) == sorted(rows)
    assert abs(len(held) - fraction * len(rows)) <= 0.5 + 1e-9


def test_hold_out_holds_out_every_row_equally_often():
    counts = np.zeros(8)
    for seed in range(800):
        counts[splits.hold_out(np.arange(8), 0.25, np.random.default_rng(seed))[1]] += 1
    assert np.abs(counts / 800 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 800)


@few
@given(st.lists(st.booleans(), min_size=6, max_size=60), st.floats(0.5, 1), seeds)
def test_given_test_rows_are_judged_and_never_learned_from(flags, sample, seed):
    named = np.array([True, False, False, *flags])
    split = splits.given(named, sample=sample, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(split.test, [row for row, flag in enumerate(named) if flag])
    assert not named[split.train].any()
    assert not named[split.unused].any()
    assert len(split.train) + len(split.unused) + len(split.test) == len(named)
    assert abs(len(split.train) - sample * (~named).sum()) <= 0.5 + 1e-9
    np.testing.assert_array_equal(split.personal_train, split.train)
    np.testing.assert_array_equal(split.personal_test, split.test)


def test_the_same_generator_gives_the_same_split():
    rows = Ratings(np.repeat(np.arange(6), 9).astype(np.int32), np.zeros(54, np.int32), np.ones(54, np.float32))
    shared = {"federated_users": 0.5, "train_rows": 0.7, "sample": 0.5, "personal_train_rows": 0.8}
    one, two, other = (splits.two_groups(rows, **shared, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in ("train", "test", "personal_train", "personal_test", "unused"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.train, other.train)


@pytest.mark.parametrize(
    ("shares_asked", "part"),
    [
        ({"federated_users": 0.01}, "train"),
        ({"federated_users": 0.99}, "personal train"),
        ({"train_rows": 0.999}, "test"),
        ({"sample": 0.001}, "train"),
        ({"personal_train_rows": 0.001}, "personal train"),
        ({"personal_train_rows": 0.999}, "personal test"),
    ],
)
def test_a_part_without_rows_is_refused_by_name(shares_asked, part):
    rows = Ratings(np.repeat(np.arange(4), 10).astype(np.int32), np.zeros(40, np.int32), np.ones(40, np.float32))
    asked = {"federated_users": 0.5, "train_rows": 0.5, "sample": 1.0, "personal_train_rows": 0.5} | shares_asked
    with pytest.raises(DataError, match=f"no {part} rows out of 40 ratings"):
        splits.two_groups(rows, **asked, rng=np.random.default_rng(0))


def test_given_without_a_test_row_is_refused():
    with pytest.raises(DataError, match="no test rows"):
        splits.given(np.zeros(9, bool), sample=1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "parts",
    [
        ([0, 1], [1, 2], [3], [4], [5]),
        ([0, 1], [2], [3], [3, 4], [5]),
        ([0, 1], [2], [3], [4], [1, 5]),
        ([0, 1], [2], [3], [4], []),
        ([0, 1], [2], [3], [4], [5, 6]),
        ([0, 1], [2], [3], [4], [4]),
        ([0, 1], [2], [3], [4], [-1]),
    ],
    ids=[
        "train and test",
        "personal train and test",
        "train and unused",
        "a row is missing",
        "a row too many",
        "one twice for one that is missing",
        "a row before the first",
    ],
)
def test_overlapping_or_missing_rows_never_pass(parts):
    with pytest.raises(AssertionError, match="overlap or do not sum"):
        splits.checked(splits.Split(*(np.array(part, np.int64) for part in parts)), 6)


def by_hand(user: np.ndarray, key: np.ndarray, share: float) -> set[int]:
    """The test rows of a per-user split, found user by user."""
    chosen: set[int] = set()
    for one in np.unique(user):
        rows = sorted(np.flatnonzero(user == one).tolist(), key=lambda row: (key[row], row))
        wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen |= set(rows[len(rows) - wanted :])
    return chosen


def timed(rows: Ratings, seed: int) -> Ratings:
    """The same ratings at few different times, so that many are equal."""
    time = np.random.default_rng(seed).integers(0, 9, len(rows))
    return Ratings(rows.user, rows.item, rows.value, time)


@few
@given(ratings(), shares, seeds)
def test_temporal_holds_out_each_users_newest_rows(rows, share, seed):
    rows = timed(rows, seed)
    split = splits.temporal(rows, test_share=share)
    assert set(split.test.tolist()) == by_hand(rows.user, rows.time, share)
    assert split.personal_test is split.test
    assert split.personal_train is split.train
    assert sorted(np.concatenate([split.train, split.test]).tolist()) == list(range(len(rows)))
    for user in np.unique(rows.user):
        mine = rows.user == user
        known, held_out = np.isin(np.arange(len(rows)), split.train) & mine, np.isin(np.arange(len(rows)), split.test)
        assert rows.time[known].max() <= rows.time[held_out & mine].min()


SAME_TIMES = {
    "one time": np.full(12, 1_000_000_000),
    "one time for each user": np.repeat([5, 7, 9], 4),
    "zero": np.zeros(12),
    "the newest half": np.tile([1, 8, 8, 8], 3),
}


@pytest.mark.parametrize("case", SAME_TIMES)
def test_temporal_needs_times_that_tell_rows_apart(case):
    rows = Ratings(
        np.repeat(np.arange(3, dtype=np.int32), 4),
        np.tile(np.arange(4, dtype=np.int32), 3),
        np.ones(12, np.float32),
        SAME_TIMES[case].astype(np.int64),
    )
    with pytest.raises(DataError, match=r"the same time, so there is nothing to order by: choose 'warm' or 'cold'$"):
        splits.temporal(rows, test_share=0.25)


@pytest.mark.parametrize(
    ("times", "share"),
    [([1, 2, 3, 4] * 3, 0), ([1, 2, 4, 4] * 2 + [1, 2, 3, 4], 2 / 3), ([4, 4, 1, 2, 1, 2, 3, 4, 4, 3, 2, 1], 1 / 3)],
)
def test_the_share_of_test_rows_that_no_time_tells_from_train_rows(times, share):
    user, item = np.repeat(np.arange(3, dtype=np.int32), 4), np.tile(np.arange(4, dtype=np.int32), 3)
    rows = Ratings(user, item, np.ones(12, np.float32), np.array(times, np.int64))
    split = splits.temporal(rows, test_share=0.25)
    assert splits.tied_share(rows, split) == pytest.approx(share)


def test_temporal_needs_times():
    rows = Ratings(np.zeros(9, np.int32), np.arange(9, dtype=np.int32), np.ones(9, np.float32))
    with pytest.raises(DataError, match="protocol 'temporal' needs timestamps"):
        splits.temporal(rows, test_share=0.2)


@few
@given(ratings(), seeds)
def test_loo_holds_out_the_newest_row_of_each_user_with_two(rows, seed):
    rows = timed(rows, seed)
    split = splits.loo(rows, rng=np.random.default_rng(seed))
    counts = np.bincount(rows.user)
    assert np.bincount(rows.user[split.test], minlength=len(counts)).tolist() == (counts > 1).astype(int).tolist()
    if splits.ordered(rows):
        for row in split.test:
            assert rows.time[row] == rows.time[rows.user == rows.user[row]].max()


def test_loo_without_an_order_draws_the_row_at_random():
    user, item = np.repeat(np.arange(200, dtype=np.int32), 4), np.tile(np.arange(4, dtype=np.int32), 200)
    for time in (None, np.full(800, 3)):
        rows = Ratings(user, item, np.ones(800, np.float32), time)
        assert not splits.ordered(rows)
        one, other = (splits.loo(rows, rng=np.random.default_rng(seed)).test for seed in (0, 1))
        assert len(one) == 200
        assert set((one % 4).tolist()) == {0, 1, 2, 3}
        assert (one != other).any()
    assert splits.ordered(Ratings(user, item, np.ones(800, np.float32), np.arange(800)))


@few
@given(ratings(), shares, seeds)
def test_warm_holds_out_a_share_of_every_users_rows(rows, share, seed):
    split = splits.warm(rows, test_share=share, rng=np.random.default_rng(seed))
    assert sorted(np.concatenate([split.train, split.test]).tolist()) == list(range(len(rows)))
    for user in np.unique(rows.user):
        total, held_out = (rows.user == user).sum(), (rows.user[split.test] == user).sum()
        assert held_out == min(max(1, round(share * total)), total - 1)
    assert split.personal_train is split.train
    assert split.personal_test is split.test


def test_a_user_with_one_rating_keeps_it_to_learn_from():
    rows = Ratings(np.array([0, 1, 1], np.int32), np.arange(3, dtype=np.int32), np.ones(3, np.float32))
    split = splits.warm(rows, test_share=0.9, rng=np.random.default_rng(0))
    assert 0 in split.train
    assert len(split.test) == 1


@few
@given(ratings(), shares, shares, seeds)
def test_cold_trains_on_all_rows_of_some_users_and_is_judged_on_the_others(rows, federated, share, seed):
    split = splits.cold(rows, federated_users=federated, test_share=share, rng=np.random.default_rng(seed))
    first, second = set(rows.user[split.train].tolist()), set(rows.user[split.test].tolist())
    assert not first & second
    assert second == set(rows.user[split.personal_train].tolist())
    assert len(first) == round(federated * len(first | second))
    assert split.personal_test is split.test
    whole = np.concatenate([split.train, split.test, split.personal_train])
    assert sorted(whole.tolist()) == list(range(len(rows)))
