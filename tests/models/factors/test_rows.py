"""A node's arranged rows against loops over its ratings."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.models.factors.rows import UserRows, arrange

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


def arranged(rows: tuple[np.ndarray, ...]) -> UserRows:
    user, item, *others = rows
    return arrange(user.astype(np.int32), item.astype(np.int32), *(torch.from_numpy(each) for each in others))


def close(found: Tensor, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@few
@given(ratings())
def test_sums_of_each_user_are_those_of_a_loop(rows):
    user, item, value, slopes, shared = rows
    found = arranged(rows)
    users, items = np.unique(user), np.unique(item)
    assert found.users.tolist() == users.tolist()
    assert found.items.tolist() == items.tolist()
    size = 1 + slopes.shape[1]
    products = np.zeros((len(users), size, size))
    content, squares, counts = np.zeros((len(users), size)), np.zeros(len(users)), np.zeros(len(users))
    rated = np.zeros((len(users), len(items)))
    dense = np.zeros((len(users), len(items)))
    by_item = np.zeros((2, len(shared), len(users)))
    for who, what, stars in zip(user, item, value, strict=True):
        at, column = np.flatnonzero(users == who)[0], np.flatnonzero(items == what)[0]
        with_one = np.concatenate([[1.0], slopes[what]])
        products[at] += np.outer(with_one, with_one)
        content[at] += stars * with_one
        squares[at] += stars**2
        counts[at] += 1
        rated[at, column], dense[at, column] = 1, stars
        by_item[:, what, at] = 1, stars
    close(found.counts, counts)
    close(found.content_products, products)
    close(found.rating_content, content)
    close(found.rating_squares, squares)
    close(found.rated.to_dense(), rated)
    close(found.ratings.to_dense(), dense)
    raters, ratings_of = by_item[:, shared > 0]
    close(found.raters.to_dense(), raters)
    close(found.ratings_of.to_dense(), ratings_of)


@few
@given(ratings(), st.integers(1, 4), st.integers(0, 2**32))
def test_cross_sums_are_those_of_a_loop(rows, columns, seed):
    user, item, _, slopes, shared = rows
    found, rng = arranged(rows), np.random.default_rng(seed)
    table = rng.normal(0, 1, (len(found.items), columns))
    weights = rng.normal(0, 1, (len(found.users), 1 + slopes.shape[1], columns))
    forth = np.zeros((len(found.users), columns, 1 + slopes.shape[1]))
    back = np.zeros((len(shared), columns))
    for who, what in zip(user, item, strict=True):
        at = found.users.tolist().index(who)
        column = found.items.tolist().index(what)
        with_one = np.concatenate([[1.0], slopes[what]])
        forth[at] += np.outer(table[column], with_one)
        back[what] += weights[at].T @ with_one
    close(found.cross(torch.from_numpy(table)), forth)
    close(found.back_cross(torch.from_numpy(weights)), back[shared > 0])


@few
@given(ratings())
def test_every_user_is_in_one_block_with_all_items_and_little_padding(rows):
    user, item, *_ = rows
    found = arranged(rows)
    seen = []
    for block in found.blocks:
        counts = found.counts[block.users]
        assert counts.max() <= max(1.15 * counts.min(), counts.min() + 8)
        assert block.items.shape == (len(block.users), int(counts.max()))
        for place, items in zip(block.users.tolist(), block.items, strict=True):
            inside = items[items < len(found.items)]
            assert sorted(found.items[inside].tolist()) == sorted(item[user == found.users[place].item()].tolist())
            seen.append(place)
    assert sorted(seen) == list(range(len(found.users)))


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
