"""Partitioners on random users: every row on one node, users whole, shares and skews as promised."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data import partitions as parts
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError, SettingsError

few = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32)
nodes_asked = st.integers(1, 5)
GENRES = 3


@st.composite
def ratings(draw: st.DrawFn) -> Ratings:
    """5 to 30 users, whose numbers have gaps, with 1 to 5 ratings each in mixed order, on 9 items."""
    counts = draw(st.lists(st.integers(1, 5), min_size=5, max_size=30))
    rng = np.random.default_rng(draw(seeds))
    user = rng.permutation(np.repeat(2 * np.arange(len(counts)) + 3, counts)).astype(np.int32)
    rows = len(user)
    return Ratings(
        user, rng.integers(9, size=rows, dtype=np.int32), np.ones(rows, np.float32), rng.integers(50, size=rows)
    )


def flags_of_items() -> np.ndarray:
    return np.arange(9)[:, None] % GENRES == np.arange(GENRES)[None, :]


def asked_of(rows: Ratings, nodes: int, seed: int = 0, **changes: Any) -> parts.RowsToDivide:
    usual = {"skew": 1.0, "concentration": 50.0, "sorted_share": 1.0, "genre_flags": flags_of_items}
    return parts.RowsToDivide(
        user=rows.user,
        item=rows.item,
        time=rows.time,
        nodes=nodes,
        value=lambda: rows.value,
        rng=np.random.default_rng(seed),
        **{**usual, **changes},
    )


def divide(how: str, rows: Ratings, nodes: int, seed: int = 0, **changes: Any) -> np.ndarray:
    return parts.partitioner_of(how).divide(asked_of(rows, nodes, seed, **changes))


def node_of_users(rows: Ratings, node: np.ndarray) -> dict[int, int]:
    """The one node of each user; fails where a user is on two."""
    found: dict[int, int] = {}
    for user, where in zip(rows.user.tolist(), node.tolist(), strict=True):
        assert found.setdefault(user, where) == where, f"user {user} is on two nodes"
    return found


def sizes_of(where: dict[int, int], nodes: int) -> list[int]:
    return [list(where.values()).count(node) for node in range(nodes)]


@pytest.mark.parametrize("how", ["rows", "users", "sizes", "time", "activity"])
@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds)
def test_every_row_is_on_one_node_and_no_node_is_empty(how, rows, nodes, seed):
    node = divide(how, rows, nodes, seed)
    assert node.shape == rows.user.shape
    assert sorted(set(node.tolist())) == list(range(nodes))


@pytest.mark.parametrize("how", ["users", "sizes", "time", "activity"])
@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds)
def test_a_users_rows_stay_together(how, rows, nodes, seed):
    node_of_users(rows, divide(how, rows, nodes, seed))


@few
@given(rows=ratings(), nodes=st.integers(1, 3), seed=seeds)
def test_by_genre_keeps_users_whole_on_nodes_that_are_not_empty(rows, nodes, seed):
    where = node_of_users(rows, divide("genre", rows, nodes, seed))
    assert set(where.values()) == set(range(nodes))


@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds)
def test_rows_are_in_equal_numbers_up_to_one(rows, nodes, seed):
    counts = np.bincount(divide("rows", rows, nodes, seed), minlength=nodes)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("how", ["users", "time"])
@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds)
def test_users_are_in_equal_numbers_up_to_one(how, rows, nodes, seed):
    sizes = sizes_of(node_of_users(rows, divide(how, rows, nodes, seed)), nodes)
    assert max(sizes) - min(sizes) <= 1


@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds)
def test_sizes_without_skew_are_in_equal_numbers_up_to_one(rows, nodes, seed):
    sizes = sizes_of(node_of_users(rows, divide("sizes", rows, nodes, seed, skew=0)), nodes)
    assert max(sizes) - min(sizes) <= 1


@few
@given(rows=ratings(), nodes=nodes_asked, seed=seeds, skew=st.floats(0, 30))
def test_sizes_leave_every_node_a_user_however_skewed(rows, nodes, seed, skew):
    sizes = sizes_of(node_of_users(rows, divide("sizes", rows, nodes, seed, skew=skew)), nodes)
    assert min(sizes) >= 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize("how", ["rows", "users", "sizes", "time"])
@pytest.mark.parametrize("nodes", [256, 257, 70_000])
def test_many_nodes_are_told_apart(how, nodes):
    rows = Ratings(np.arange(nodes, dtype=np.int32), np.zeros(nodes, np.int32), np.ones(nodes, np.float32))
    rows = replace(rows, time=np.arange(nodes))
    assert sorted(divide(how, rows, nodes).tolist()) == list(range(nodes))


def test_sizes_are_proportional_to_the_power_of_the_rank():
    user = np.arange(60_000)
    node = parts.by_group_size(user, 4, 2.0, np.random.default_rng(1))
    weights = np.array([1, 1 / 4, 1 / 9, 1 / 16])
    np.testing.assert_allclose(np.bincount(node) / 60_000, weights / weights.sum(), atol=1e-4)


@pytest.mark.parametrize("how", ["rows", "users", "sizes"])
def test_which_node_a_user_gets_is_left_to_chance(how):
    rows = Ratings(np.arange(12, dtype=np.int32), np.zeros(12, np.int32), np.ones(12, np.float32))
    draws = 600
    nodes = np.array([divide(how, rows, 3, seed, skew=0) for seed in range(draws)])
    shares = np.stack([(nodes == node).mean(axis=0) for node in range(3)])
    assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / draws)


def tastes(users: int) -> tuple[np.ndarray, np.ndarray]:
    """Users 0, 1, 2... whose only row has genre user % 6, and those flags."""
    return np.arange(users), np.eye(6)[np.arange(users) % 6]


def shares_per_genre(node: np.ndarray, nodes: int) -> np.ndarray:
    """The share of each node in the users of each genre, [genres, nodes]."""
    genre = np.arange(len(node)) % 6
    return np.array([np.bincount(node[genre == g], minlength=nodes) / (genre == g).sum() for g in range(6)])


def test_a_tiny_concentration_puts_users_of_one_taste_on_one_node():
    user, flags = tastes(1200)
    largest = [
        shares_per_genre(parts.by_favourite_genre(user, flags, 3, 0.01, np.random.default_rng(seed)), 3).max(axis=1)
        for seed in range(20)
    ]
    assert np.mean(largest) > 0.95


def test_a_large_concentration_gives_nodes_alike_in_taste():
    user, flags = tastes(6000)
    shares = shares_per_genre(parts.by_favourite_genre(user, flags, 3, 1e6, np.random.default_rng(0)), 3)
    assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 1000)


def test_shares_of_a_taste_vary_as_the_dirichlet_distribution_does():
    user, flags = tastes(1200)
    concentration, nodes = 2.0, 3
    shares = np.array(
        [
            shares_per_genre(
                parts.by_favourite_genre(user, flags, nodes, concentration, np.random.default_rng(seed)), 3
            )
            for seed in range(200)
        ]
    )
    # Var of one Dirichlet share, and the binomial's on top: E[p(1 - p)] / n with n = 200 users of a genre.
    mean, total = 1 / nodes, nodes * concentration
    spread = mean * (1 - mean) / (total + 1)
    expected = spread + (mean * (1 - mean) - spread) / 200
    assert shares.var() == pytest.approx(expected, rel=0.1)
    assert np.abs(shares.mean(axis=0) - mean).max() < 5 * np.sqrt(expected / 200)


def test_a_favourite_is_the_genre_of_most_rows_and_the_first_on_a_tie():
    # User 0: mostly genre 0. User 1: mostly genre 1. User 2: one row each. Users 3 and 4 like only one genre.
    user = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 4])
    genre = np.array([0, 1, 0, 1, 0, 1, 1, 0, 0, 1])
    for seed in range(10):
        node = parts.by_favourite_genre(user, np.eye(2)[genre], 2, 1e-4, np.random.default_rng(seed))
        where = dict(zip(user.tolist(), node.tolist(), strict=True))
        assert where[0] == where[2] == where[3] != where[1] == where[4]


def test_by_genre_asks_for_the_genres_of_each_rows_own_item():
    rows = Ratings(np.arange(6, dtype=np.int32), np.array([0, 1, 3, 4, 6, 7], np.int32), np.ones(6, np.float32))
    flags = flags_of_items()[:, :2].astype(float)
    node = divide("genre", rows, 2, concentration=1e-4, genre_flags=lambda: flags)
    assert node[0] == node[2] == node[4] != node[1] == node[3] == node[5]


@few
@given(rows=ratings(), nodes=nodes_asked)
def test_by_time_earlier_users_are_on_earlier_nodes(rows, nodes):
    where = node_of_users(rows, divide("time", rows, nodes))
    first = {user: int(rows.time[rows.user == user].min()) for user in where}
    for earlier in range(nodes - 1):
        latest = max(first[user] for user, node in where.items() if node == earlier)
        assert latest <= min(first[user] for user, node in where.items() if node == earlier + 1)


@pytest.mark.parametrize("how", ["users", "sizes", "genre", "time"])
def test_fewer_users_than_nodes_are_refused(how):
    rows = Ratings(np.array([1, 1, 4, 4], np.int32), np.zeros(4, np.int32), np.ones(4, np.float32), np.arange(4))
    with pytest.raises(DataError, match="3 nodes cannot share 2 users: use at most 2 nodes"):
        divide(how, rows, 3)


def test_fewer_rows_than_nodes_are_refused():
    rows = Ratings(np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.float32))
    with pytest.raises(DataError, match="3 nodes cannot share 2 rows"):
        divide("rows", rows, 3)


def test_by_time_without_timestamps_is_refused():
    rows = Ratings(np.arange(4, dtype=np.int32), np.zeros(4, np.int32), np.ones(4, np.float32))
    with pytest.raises(DataError, match="'time' needs timestamps, and this source has none"):
        divide("time", rows, 2)


def test_by_genre_gives_up_where_one_taste_cannot_fill_the_nodes():
    with pytest.raises(
        DataError, match="a node had no users in each of 100 draws with concentration 1e-06 over 3 nodes"
    ):
        parts.by_favourite_genre(np.arange(9), np.ones((9, 1)), 3, 1e-6, np.random.default_rng(0))


def test_by_genre_without_genres_is_refused():
    rows = Ratings(np.arange(4, dtype=np.int32), np.zeros(4, np.int32), np.ones(4, np.float32))
    with pytest.raises(DataError, match="genres"):
        divide("genre", rows, 2, genre_flags=lambda: np.zeros((1, 0)))


def test_an_unknown_partition_is_an_error_that_names_the_nearest():
    with pytest.raises(SettingsError) as refused:
        parts.partitioner_of("user")
    assert str(refused.value) == (
        "no partition 'user', did you mean 'users'?; there are: activity, catalogue, genre, popularity, rows, "
        "scale, sizes, time, users"
    )


def test_a_partitioner_says_truly_whether_it_keeps_users_whole():
    rows = Ratings(
        np.repeat(np.arange(12, dtype=np.int32), 8),
        np.tile(np.arange(8, dtype=np.int32), 12),
        np.arange(96, dtype=np.float32),
        np.arange(96),
    )
    for name, partitioner in parts.PARTITIONERS.items():
        node = divide(name, rows, 3)
        whole = all(len(set(node[rows.user == user].tolist())) == 1 for user in range(12))
        assert whole == partitioner.keeps_users == (name in parts.WHOLE_USERS), name


@pytest.mark.parametrize("how", ["time", "activity", "popularity", "scale", "catalogue"])
def test_a_share_stays_where_it_is_sorted_to_and_the_others_swap(how):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(300, dtype=np.int32), 3)
    rows = Ratings(
        user, rng.integers(400, size=900, dtype=np.int32), rng.random(900).astype(np.float32), np.arange(900)
    )
    unit = rows.item if how == "catalogue" else rows.user
    apart, mixed, alike = (divide(how, rows, 3, sorted_share=share) for share in (1.0, 0.7, 0.0))
    for node in (mixed, alike):
        units = [np.unique(np.stack([unit, found]), axis=1)[1] for found in (apart, node)]
        assert [len(found) for found in units] == [len(np.unique(unit))] * 2, "a unit is on two nodes"
        np.testing.assert_array_equal(*(np.bincount(found) for found in units))
    # Of those who swap, a third finds its own node again.
    assert (mixed == apart).mean() == pytest.approx(0.7 + 0.3 / 3, abs=0.06)
    assert (alike == apart).mean() == pytest.approx(1 / 3, abs=0.09)
