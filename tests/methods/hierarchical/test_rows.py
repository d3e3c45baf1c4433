"""Users' arranged rows against loops over their ratings."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.methods.hierarchical.rows import UserRows, arrange
from hierfed.models.symmetric import unpack

ITEMS = 61

few = settings(max_examples=60, deadline=None)


@st.composite
def ratings(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """User, item and value of rows, user after user in any order, those of a user in any order, without repeated pairs;
    the content of more items than occur, with its last row of zeros, and which of them are shared: none, some or all.

    From one to 20 users of very unlike numbers of ratings, so that there are several blocks; numbers have gaps.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = draw(st.integers(1, 40))
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=20))
    user_numbers = rng.choice(100, len(counts), replace=False)
    item_numbers = rng.choice(60, items, replace=False)
    rows = [
        (number, each)
        for number, count in zip(user_numbers.tolist(), counts, strict=True)
        for each in rng.choice(item_numbers, min(count, items), replace=False).tolist()
    ]
    user, item = np.array(rows).T
    slopes = rng.normal(0, 1, (ITEMS, draw(st.integers(0, 3))))
    shared = rng.random(ITEMS) < draw(st.sampled_from([0, 0.1, 0.5, 1]))
    return user, item, rng.normal(0, 1, len(user)), padded(slopes), shared.astype(float)


def padded(slopes: np.ndarray) -> np.ndarray:
    """(1, f_i) of all items and a last row of zeros."""
    return np.concatenate([np.column_stack([np.ones(len(slopes)), slopes]), np.zeros((1, 1 + slopes.shape[1]))])


def arranged(rows: tuple[np.ndarray, ...]) -> UserRows:
    user, item, *others = rows
    return arrange(user.astype(np.int32), item.astype(np.int32), *(torch.from_numpy(each) for each in others))


def in_turn(user: np.ndarray) -> list[int]:
    """The users, each at the place that it has among the arranged ones."""
    return list(dict.fromkeys(user.tolist()))


def own_items(item: np.ndarray, shared: np.ndarray) -> list[int]:
    """The shared items that were rated, ascending."""
    return [each for each in np.unique(item).tolist() if shared[each]]


def close(found: Tensor, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@few
@given(ratings())
def test_sums_of_each_user_are_those_of_a_loop(rows):
    user, item, value, content, shared = rows
    found, users = arranged(rows), in_turn(user)
    size = content.shape[1]
    products = np.zeros((len(users), size, size))
    of_content, squares, counts = np.zeros((len(users), size)), np.zeros(len(users)), np.zeros(len(users))
    rated, dense = np.zeros((2, len(users), ITEMS))
    for who, what, stars in zip(user, item, value, strict=True):
        at = users.index(who)
        products[at] += np.outer(content[what], content[what])
        of_content[at] += stars * content[what]
        squares[at] += stars**2
        counts[at] += 1
        rated[at, what], dense[at, what] = 1, stars
    close(found.counts, counts)
    close(unpack(found.content_products, size), products)
    close(found.rating_content, of_content)
    close(found.rating_squares, squares)
    close(found.rated.to_dense(), rated)
    close(found.ratings.to_dense(), dense)
    own = own_items(item, shared)
    close(found.raters.to_dense(), rated.T[own])
    close(found.ratings_of.to_dense(), dense.T[own])
    every = np.flatnonzero(shared).tolist()
    assert found.sent.tolist() == [every.index(each) for each in own]


@few
@given(ratings(), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32))
def test_cross_sums_are_those_of_a_loop(rows, columns, others, seed):
    user, item, _, content, shared = rows
    found, users, rng = arranged(rows), in_turn(user), np.random.default_rng(seed)
    table = np.concatenate([rng.normal(0, 1, (ITEMS, columns + others)), np.zeros((1, columns + others))])
    weights = rng.normal(0, 1, (len(users), content.shape[1], columns))
    forth = np.zeros((len(users), columns, others))
    back = np.zeros((ITEMS, columns))
    for who, what in zip(user, item, strict=True):
        at = users.index(who)
        forth[at] += np.outer(table[what, :columns], table[what, columns:])
        back[what] += weights[at].T @ content[what]
    close(found.cross(torch.from_numpy(table), columns), forth)
    own = own_items(item, shared)
    close(found.back_cross(torch.from_numpy(content), torch.from_numpy(weights)), back[own])


@few
@given(ratings(), st.sampled_from([4096, 30, 1]))
def test_every_user_is_in_one_block_with_all_items_and_little_padding(rows, most):
    user, item, *_ = rows
    with patch("hierfed.methods.hierarchical.rows.BLOCK_ROWS", most):
        found = arranged(rows)
    users, seen = in_turn(user), []
    for block in found.blocks:
        counts = found.counts[block.users]
        assert counts.max() <= max(1.15 * counts.min(), counts.min() + 8)
        assert block.items.shape == (len(block.users), int(counts.max()))
        assert block.items.numel() <= most or len(block.users) == 1
        assert block.items.dtype == torch.int32
        for place, items in zip(block.users.tolist(), block.items, strict=True):
            count = int(found.counts[place])
            assert sorted(items[:count].tolist()) == sorted(item[user == users[place]].tolist())
            assert (items[count:] == ITEMS).all()
            seen.append(place)
    assert sorted(seen) == list(range(len(users)))


@few
@given(ratings(), st.integers(1, 3), st.integers(0, 2**32))
def test_small_blocks_change_nothing_but_rounding(rows, columns, seed):
    user, _, _, content, _ = rows
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.normal(0, 1, (len(in_turn(user)), content.shape[1], columns)))
    one = arranged(rows)
    with patch("hierfed.methods.hierarchical.rows.BLOCK_ROWS", 7):
        other = arranged(rows)
    own = torch.from_numpy(content)
    close(other.content_products, one.content_products.numpy())
    close(other.back_cross(own, weights), one.back_cross(own, weights).numpy())


def test_the_order_of_a_user_s_rows_changes_nothing_but_rounding():
    rng = np.random.default_rng(3)
    user, item = np.nonzero(rng.random((9, 30)) < 0.4)
    value = rng.normal(0, 1, len(user))
    of_items = padded(rng.normal(0, 1, (30, 2))), (rng.random(30) < 0.5).astype(float)
    order = rng.permutation(len(user))
    order = order[np.argsort(user[order], kind="stable")]
    assert (order != np.arange(len(order))).any()
    one, other = (arranged((user[chosen], item[chosen], value[chosen], *of_items)) for chosen in (slice(None), order))
    assert torch.equal(one.sent, other.sent)
    for name in ("rated", "ratings", "raters", "ratings_of"):
        assert torch.equal(getattr(one, name).to_dense(), getattr(other, name).to_dense())
    for name in ("content_products", "rating_content", "rating_squares"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-12)


def test_nobody_s_rows_are_arranged_too():
    empty = np.zeros(0, np.int32)
    found = arranged((empty, empty, np.zeros(0), padded(np.zeros((4, 2))), np.ones(4)))
    assert len(found.counts) == len(found.sent) == len(found.blocks) == 0
    assert found.cross(torch.zeros(5, 4).double(), 2).shape == (0, 2, 2)
    assert found.back_cross(torch.zeros(5, 3).double(), torch.zeros(0, 3, 2).double()).shape == (0, 2)
