"""A node's arranged rows against loops over its ratings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.models.factors.rows import UserRows, arrange
from hierfed.models.factors.symmetric import unpack

few = settings(max_examples=60, deadline=None)


@st.composite
def ratings(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """User, item and value of rows in random order, without repeated pairs; slopes of more items than occur, and which
    of them are shared: none, some or all.

    From one to 20 users of very unlike numbers of ratings, so that there are several blocks; numbers have gaps.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = draw(st.integers(1, 40))
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=20))
    user_numbers = np.sort(rng.choice(100, len(counts), replace=False))
    item_numbers = np.sort(rng.choice(60, items, replace=False))
    rows = [
        (number, each)
        for number, count in zip(user_numbers.tolist(), counts, strict=True)
        for each in rng.choice(item_numbers, min(count, items), replace=False).tolist()
    ]
    user, item = rng.permutation(np.array(rows)).T
    slopes = rng.normal(0, 1, (61, draw(st.integers(0, 3))))
    shared = rng.random(61) < draw(st.sampled_from([0, 0.1, 0.5, 1]))
    return user, item, rng.normal(0, 1, len(user)), slopes, shared.astype(float)


def with_ones(slopes: np.ndarray) -> np.ndarray:
    """(1, f_i) of each item."""
    return np.column_stack([np.ones(len(slopes)), slopes])


def arranged(rows: tuple[np.ndarray, ...]) -> UserRows:
    user, item, value, slopes, shared = rows
    order = np.argsort(user, kind="stable")
    content = np.concatenate([with_ones(slopes), np.zeros((1, 1 + slopes.shape[1]))])
    columns = user[order].astype(np.int32), item[order].astype(np.int32), torch.from_numpy(value[order])
    return arrange(*columns, torch.from_numpy(content), torch.from_numpy(shared))


def own_items(item: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The numbers of the shared items that were rated, ascending."""
    return np.array([number for number in np.unique(item) if shared[number] > 0], np.int64)


def close(found: Tensor, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@few
@given(ratings())
def test_sums_of_each_user_are_those_of_a_loop(rows):
    user, item, value, slopes, shared = rows
    found, users = arranged(rows), np.unique(user)
    size, items = 1 + slopes.shape[1], len(shared)
    products = np.zeros((len(users), size, size))
    content, squares, counts = np.zeros((len(users), size)), np.zeros(len(users)), np.zeros(len(users))
    by_user = np.zeros((2, len(users), items))
    for who, what, stars in zip(user, item, value, strict=True):
        at = np.flatnonzero(users == who)[0]
        with_one = np.concatenate([[1.0], slopes[what]])
        products[at] += np.outer(with_one, with_one)
        content[at] += stars * with_one
        squares[at] += stars**2
        counts[at] += 1
        by_user[:, at, what] = 1, stars
    close(found.counts, counts)
    close(unpack(found.content_products, size), products)
    close(found.rating_content, content)
    close(found.rating_squares, squares)
    rated, ratings = by_user
    close(found.rated.to_dense(), rated)
    close(found.ratings.to_dense(), ratings)
    own = own_items(item, shared)
    assert np.flatnonzero(shared)[found.sent.numpy()].tolist() == own.tolist()
    close(found.raters.to_dense(), rated.T[own])
    close(found.ratings_of.to_dense(), ratings.T[own])


@few
@given(ratings(), st.integers(1, 4), st.integers(0, 2**32))
def test_cross_sums_are_those_of_a_loop(rows, columns, seed):
    user, item, _, slopes, shared = rows
    found, rng, users = arranged(rows), np.random.default_rng(seed), np.unique(user)
    table = rng.normal(0, 1, (len(shared), columns))
    weights = rng.normal(0, 1, (len(users), 1 + slopes.shape[1], columns))
    forth = np.zeros((len(users), columns, 1 + slopes.shape[1]))
    back = np.zeros((len(shared), columns))
    for who, what in zip(user, item, strict=True):
        at = np.flatnonzero(users == who)[0]
        with_one = np.concatenate([[1.0], slopes[what]])
        forth[at] += np.outer(table[what], with_one)
        back[what] += weights[at].T @ with_one
    vectors = np.column_stack([table, with_ones(slopes)])
    padded = torch.from_numpy(np.concatenate([vectors, np.zeros((1, vectors.shape[1]))]))
    close(found.cross(padded, columns), forth)
    content = padded[:, columns:].contiguous()
    close(found.back_cross(content, torch.from_numpy(weights)), back[own_items(item, shared)])


@few
@given(ratings(), st.sampled_from([1, 10, 4096]))
def test_every_user_is_in_one_block_with_all_items_and_little_padding(rows, most):
    user, item, _, _, shared = rows
    users = np.unique(user)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hierfed.models.factors.rows.BLOCK_ROWS", most)
        found = arranged(rows)
    seen = []
    for block in found.blocks:
        counts = found.counts[block.users]
        assert counts.max() <= max(1.15 * counts.min(), counts.min() + 8)
        assert block.items.shape == (len(block.users), int(counts.max()))
        assert block.items.numel() <= 1.15 * max(most, int(counts.max())) + 8 * len(counts)
        for place, items in zip(block.users.tolist(), block.items, strict=True):
            inside = items[items < len(shared)]
            assert sorted(inside.tolist()) == sorted(item[user == users[place]].tolist())
            seen.append(place)
    assert sorted(seen) == list(range(len(users)))


def test_the_order_of_the_rows_changes_nothing_but_rounding():
    rng = np.random.default_rng(3)
    user, item = np.nonzero(rng.random((9, 30)) < 0.4)
    value, of_items = rng.normal(0, 1, len(user)), (rng.normal(0, 1, (30, 2)), (rng.random(30) < 0.5).astype(float))
    order = rng.permutation(len(user))
    one, other = (arranged((user[chosen], item[chosen], value[chosen], *of_items)) for chosen in (slice(None), order))
    for name in ("rated", "ratings", "raters", "ratings_of"):
        assert torch.equal(getattr(one, name).to_dense(), getattr(other, name).to_dense())
    for name in ("content_products", "rating_content", "rating_squares"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-12)
