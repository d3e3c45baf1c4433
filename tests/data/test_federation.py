"""Nodes hold exactly the rows they were assigned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.federation import Nodes, make_nodes, numbers_of, row_counts, rows_by_node, taken, train_rows
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


def some_nodes(nodes: int = 6) -> Nodes:
    where = np.concatenate([np.arange(nodes), np.random.default_rng(1).integers(0, nodes, 40)])
    return make_nodes(numbered(len(where), 0), where, numbered(len(where), 1000), where, nodes)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_taken_nodes_stand_in_the_order_asked_for_and_know_of_all(places):
    nodes = some_nodes()
    chosen = nodes.take(np.array(places, np.int64))
    assert [node.number for node in chosen] == places
    for node in chosen:
        assert node.train.user.tolist() == nodes[node.number].train.user.tolist()
    again = chosen.everyone()
    assert [node.name for node in again] == [node.name for node in nodes]
    assert again.complete
    assert chosen.complete == (places == list(range(6)))
    assert numbers_of(chosen).tolist() == numbers_of(list(chosen)).tolist() == places
    # Places are among those that stand here, not numbers.
    turned = np.arange(len(places))[::-1]
    for part in (chosen, list(chosen)):
        assert [node.number for node in taken(part, turned)] == places[::-1]


@pytest.mark.parametrize("part", [slice(5), slice(1, None), slice(None, None, -1), slice(0, 0)])
def test_a_part_of_the_nodes_is_not_complete(part):
    nodes = some_nodes()
    assert nodes.complete
    assert not nodes[part].complete
    assert nodes[part].everyone().complete


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_train_rows_are_those_of_node_after_node(places):
    nodes = some_nodes()
    chosen = nodes.take(np.array(places))
    for part in (chosen, list(chosen)):
        ends, rows = train_rows(part)
        assert len(ends) == len(places) + 1
        assert (ends[0], ends[-1]) == (0, len(rows))
        for place, node in enumerate(part):
            mine = slice(ends[place], ends[place + 1])
            for name in ("user", "item", "value", "time"):
                assert getattr(rows, name)[mine].tolist() == getattr(node.train, name).tolist()


def test_train_rows_of_neighbours_are_views():
    nodes = some_nodes()
    for part in (nodes, nodes[2:5], nodes[3:4]):
        _, rows = train_rows(part)
        assert np.shares_memory(rows.user, nodes.train.ratings.user)
    assert not np.shares_memory(train_rows(nodes[::2])[1].user, nodes.train.ratings.user)
    alone = nodes[2]
    assert train_rows([alone])[1] is alone.train


def test_train_rows_have_times_where_all_nodes_have():
    timed, timeless = some_nodes()[0], make_nodes(*[replace(numbered(2, 5), time=None), np.zeros(2, int)] * 2, 1)[0]
    assert train_rows([timed, timed])[1].time.tolist() == [*timed.train.time, *timed.train.time]
    ends, rows = train_rows([timed, timeless])
    assert rows.time is None
    assert rows.user.tolist() == [*timed.train.user, *timeless.train.user]
    assert ends.tolist() == [0, len(timed.train), len(timed.train) + 2]


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
