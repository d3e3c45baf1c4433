"""Partitioners by items, against users and rows sorted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.popularity import by_catalogue, by_popularity
from hierfed.errors import DataError

# Item 0 has four rows, item 1 two, items 2 and 3 one each. Mean logarithms of users 1, 4, 6, 9: log 4, log 4 / 2,
# (log 4 + log 2) / 2, (log 4 + log 2) / 3.
USER = np.array([1, 4, 4, 6, 6, 9, 9, 9])
ITEM = np.array([0, 0, 2, 0, 1, 0, 1, 3])


def test_friends_of_rare_items_are_on_the_first_nodes():
    assert by_popularity(USER, ITEM, 4).tolist() == [3, 0, 0, 2, 2, 1, 1, 1]
    assert by_popularity(USER, ITEM, 2).tolist() == [1, 0, 0, 1, 1, 0, 0, 0]


def test_users_alike_are_in_the_order_of_their_numbers():
    assert by_popularity(np.array([5, 2, 8]), np.array([0, 1, 2]), 3).tolist() == [1, 0, 2]


def test_each_item_is_on_one_node_and_catalogues_are_equal_up_to_one():
    rng = np.random.default_rng(3)
    item = rng.permutation(np.repeat(2 * np.arange(11), 5))
    node = by_catalogue(item, 4, np.random.default_rng(0))
    where = {each: set(node[item == each].tolist()) for each in np.unique(item).tolist()}
    assert all(len(nodes) == 1 for nodes in where.values())
    sizes = np.bincount([next(iter(nodes)) for nodes in where.values()])
    assert sorted(sizes.tolist()) == [2, 3, 3, 3]
    assert (node != by_catalogue(item, 4, np.random.default_rng(1))).any()


def test_fewer_users_or_items_than_nodes_are_refused():
    with pytest.raises(DataError, match="users"):
        by_popularity(USER, ITEM, 5)
    with pytest.raises(DataError, match="rated items"):
        by_catalogue(ITEM, 5, np.random.default_rng(0))
