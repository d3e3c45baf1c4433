"""Nodes: each holds its own rows, and no one else's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from hierfed.data.grouping import by_group
from hierfed.data.ratings import Ratings, concatenated
from hierfed.errors import DataError


@dataclass(frozen=True)
class Node:
    """One owner of ratings: its train rows and its test rows.

    number: from 0; the key of its random streams and its place in every sum.
    name: shown to people.
    """

    number: int
    name: str
    train: Ratings
    test: Ratings


@dataclass(frozen=True, eq=False)
class RowsByNode:
    """Ratings in the order of the nodes that hold them.

    offsets: int64 [nodes + 1]; node k holds rows offsets[k] to offsets[k + 1].
    """

    ratings: Ratings
    offsets: np.ndarray

    def of(self, node: int) -> Ratings:
        """A node's rows, as views of all rows."""
        return self.ratings.between(int(self.offsets[node]), int(self.offsets[node + 1]))


@dataclass(frozen=True, eq=False)
class Nodes(Sequence[Node]):
    """Nodes made on demand as views of all nodes' rows, and not kept.

    numbers: the nodes of this sequence, int64. A slice has fewer nodes, but the same rows.
    Raises DataError if a node would have no train rows.
    """

    train: RowsByNode
    test: RowsByNode
    numbers: np.ndarray

    def __post_init__(self) -> None:
        """Refuse empty nodes, by name."""
        empty = np.flatnonzero(np.diff(self.train.offsets) == 0)
        if len(empty):
            raise DataError(
                f"node {empty[0] + 1} of {len(self.train.offsets) - 1} has no rows to learn from: "
                "use fewer nodes, more rows or another partition"
            )

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Node: ...
    @overload
    def __getitem__(self, place: slice) -> Nodes: ...
    def __getitem__(self, place: int | slice) -> Node | Nodes:
        if isinstance(place, slice):
            return replace(self, numbers=self.numbers[place])
        number = int(self.numbers[place])
        return Node(number, str(number + 1), self.train.of(number), self.test.of(number))

    @property
    def complete(self) -> bool:
        """True if this sequence holds all nodes that exist, in their order."""
        return np.array_equal(self.numbers, self.everyone().numbers)

    def everyone(self) -> Nodes:
        """All nodes that exist."""
        return replace(self, numbers=np.arange(len(self.train.offsets) - 1))

    def take(self, places: np.ndarray) -> Nodes:
        """The nodes at these places, in this order."""
        return replace(self, numbers=self.numbers[places])


def row_counts(nodes: Sequence[Node]) -> np.ndarray:
    """The number of train rows of each node, int64 [nodes]."""
    if isinstance(nodes, Nodes):
        lengths: np.ndarray = np.diff(nodes.train.offsets)[nodes.numbers]
        return lengths
    return np.array([len(node.train) for node in nodes], np.int64)


def make_nodes(train: Ratings, train_node: np.ndarray, test: Ratings, test_node: np.ndarray, nodes: int) -> Nodes:
    """Nodes 0 to nodes - 1, from the node number of each train and test row.

    Raises DataError if a node would have no train rows.
    """
    return Nodes(rows_by_node(train, train_node, nodes), rows_by_node(test, test_node, nodes), np.arange(nodes))


def rows_by_node(ratings: Ratings, node: np.ndarray, nodes: int, rows: np.ndarray | None = None) -> RowsByNode:
    """Ratings in the order of their nodes. Those of one node keep their order.

    node: of each rating.
    rows: the numbers of the ratings to take; None for all.
    """
    order = by_group(node, nodes, rows)

    def rows_at(places: slice) -> np.ndarray:
        found = order.rows(places)
        return found if rows is None else rows[found]

    return RowsByNode(ratings.gather(rows_at, len(order)), order.offsets)


def numbers_of(nodes: Sequence[Node]) -> np.ndarray:
    """The nodes' numbers, int64 [nodes]."""
    return nodes.numbers if isinstance(nodes, Nodes) else np.array([node.number for node in nodes])


def taken(nodes: Sequence[Node], places: np.ndarray) -> Sequence[Node]:
    """The nodes at these places, in this order."""
    return nodes.take(places) if isinstance(nodes, Nodes) else [nodes[place] for place in places]


def train_rows(nodes: Sequence[Node]) -> tuple[np.ndarray, Ratings]:
    """The offsets of each node's train rows, int64 [nodes + 1], and these nodes' train rows, node after node.

    For neighbours in `Nodes` the rows are views.
    """
    if not isinstance(nodes, Nodes):
        parts = [node.train for node in nodes]
        return np.cumsum([0, *map(len, parts)]), concatenated(parts)
    offsets, numbers = nodes.train.offsets, nodes.numbers
    lengths = offsets[numbers + 1] - offsets[numbers]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if (np.diff(numbers) == 1).all() and len(numbers):
        return ends, nodes.train.ratings.between(int(offsets[numbers[0]]), int(offsets[numbers[-1] + 1]))
    return ends, nodes.train.ratings.take(np.repeat(offsets[numbers] - ends[:-1], lengths) + np.arange(ends[-1]))
