"""Nodes hold exactly the rows they were assigned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.federation import make_nodes, row_counts, rows_by_node
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError


def numbered(rows: int, first: int) -> Ratings:
    """Ratings that can be told apart in every column: row k holds first + k."""
    place = first + np.arange(rows)
    return Ratings(place.astype(np.int32), place.astype(np.int32), place.astype(np.float32), place.astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 4), max_size=40), st.lists(st.integers(0, 4), max_size=40))
def test_each_node_holds_its_own_rows_in_their_order(nodes, train_node, test_node):
    train_node = np.array([*range(nodes), *(k % nodes for k in train_node)])
    test_node = np.array([k % nodes for k in test_node], np.int64)
    made = make_nodes(numbered(len(train_node), 0), train_node, numbered(len(test_node), 1000), test_node, nodes)
    assert [(node.number, node.name) for node in made] == [(k, str(k + 1)) for k in range(nodes)]
    for node in made:
        train_rows = [row for row, where in enumerate(train_node) if where == node.number]
        test_rows = [1000 + row for row, where in enumerate(test_node) if where == node.number]
        for part, expected in ((node.train, train_rows), (node.test, test_rows)):
            for column in (part.user, part.item, part.value, part.time):
                assert column.tolist() == expected


def test_nodes_of_a_source_without_times_have_none():
    rows = Ratings(np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.float32))
    assert [node.train.time for node in make_nodes(rows, np.array([0, 1]), rows, np.array([1, 1]), 2)] == [None, None]


@pytest.mark.parametrize(("train_node", "empty"), [([0, 2, 2], 2), ([0, 1, 1], 3), ([1, 2, 2], 1)])
def test_a_node_with_nothing_to_learn_from_is_refused(train_node, empty):
    rows = numbered(3, 0)
    with pytest.raises(DataError, match=f"node {empty} of 3 has no rows to learn from"):
        make_nodes(rows, np.array(train_node), rows, np.array([0, 1, 2]), 3)


def test_nodes_are_a_sequence_of_views():
    rng = np.random.default_rng(0)
    where = np.concatenate([np.arange(6), rng.integers(0, 6, 40)])
    nodes = make_nodes(numbered(46, 0), where, numbered(46, 1000), where, 6)
    assert len(nodes) == 6
    assert nodes[-1].number == 5
    assert [node.number for node in nodes[1:5:2]] == [1, 3]
    assert [node.name for node in nodes[4:][:1]] == ["5"]
    assert [node.number for node in reversed(nodes)] == [5, 4, 3, 2, 1, 0]
    for node in nodes:
        for part, whole in ((node.train, nodes.train.ratings), (node.test, nodes.test.ratings)):
            for name in ("user", "item", "value", "time"):
                assert np.shares_memory(getattr(part, name), getattr(whole, name))
    with pytest.raises(IndexError):
        nodes[6]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=30, max_size=30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_rows_named_by_number_are_divided_as_if_they_stood_alone(node, taken, random):
    ratings, rows = numbered(30, 0), np.array(random.sample(range(30), taken), np.int64)
    found = rows_by_node(ratings, np.array(node), 4, rows)
    alone = rows_by_node(ratings.take(rows), np.array(node)[rows], 4)
    np.testing.assert_array_equal(found.offsets, alone.offsets)
    np.testing.assert_array_equal(found.ratings.user, alone.ratings.user)


def test_rows_are_counted_alike_in_nodes_parts_of_them_and_lists():
    where = np.array([0, 2, 2, 1, 2, 1])
    nodes = make_nodes(numbered(6, 0), where, numbered(2, 10), np.array([0, 1]), 3)
    assert row_counts(nodes).tolist() == row_counts(list(nodes)).tolist() == [1, 2, 3]
    assert row_counts(nodes[1:]).tolist() == [2, 3]
    assert row_counts(nodes.take(np.array([2, 0]))).tolist() == [3, 1]
    assert row_counts([]).tolist() == []
