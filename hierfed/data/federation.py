"""Nodes: each holds its own rows, and no one else's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierfed.data.ratings import Ratings
from hierfed.errors import DataError


@dataclass(frozen=True)
class Node:
    """One owner of ratings: the rows it learns from and the rows it is judged on.

    number: from 0, the key of its random streams and its place in every sum. name: what people call it.
    """

    number: int
    name: str
    train: Ratings
    test: Ratings


def make_nodes(train: Ratings, train_node: np.ndarray, test: Ratings, test_node: np.ndarray, nodes: int) -> list[Node]:
    """Nodes 0 to nodes - 1 from the node number of each train and test row.

    Raises DataError where a node would have nothing to learn from.
    """
    counts = np.bincount(train_node, minlength=nodes)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise DataError(
            f"node {empty[0] + 1} of {nodes} has no rows to learn from: use fewer nodes, more rows or another partition"
        )
    train_rows, test_rows = _rows_by_node(train_node, nodes), _rows_by_node(test_node, nodes)
    return [Node(k, str(k + 1), train.take(train_rows[k]), test.take(test_rows[k])) for k in range(nodes)]


def _rows_by_node(node: np.ndarray, nodes: int) -> list[np.ndarray]:
    order = np.argsort(node, kind="stable")
    return np.split(order, np.cumsum(np.bincount(node, minlength=nodes))[:-1])
