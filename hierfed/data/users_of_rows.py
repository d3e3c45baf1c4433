"""Shared by partitioners: the users of rows, a node for each row from a node for each user, and swaps at random."""

from __future__ import annotations

import numpy as np

from hierfed.data.grouping import distinct, look_up
from hierfed.errors import DataError


class TooFewError(DataError):
    """Fewer users, or rows, than nodes that are to share them. available: how many there are."""

    def __init__(self, nodes: int, available: int, kind: str):
        super().__init__(f"{nodes} nodes cannot share {available} {kind}: use at most {available} nodes")
        self.available = available


def users_of(user: np.ndarray, nodes: int) -> np.ndarray:
    """The users who have rows, ascending; raises TooFewError where they are fewer than the nodes."""
    users = distinct(user)
    refuse_fewer(nodes, len(users), "users")
    return users


def refuse_fewer(nodes: int, available: int, kind: str) -> None:
    """Raise TooFewError where there are fewer users, or rows, than nodes; kind: of which."""
    if available < nodes:
        raise TooFewError(nodes, available, kind)


def of_rows(user: np.ndarray, users: np.ndarray, node: np.ndarray) -> np.ndarray:
    """The node of each row from the node of each of the distinct users."""
    of_user = np.empty(users[-1] + 1, np.min_scalar_type(int(node.max())))
    of_user[users] = node
    return look_up(of_user, user)


def swapped(node: np.ndarray, unit: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A division in which each unit keeps its node with this chance; the others swap theirs among them at random.

    So every node has as many units as before, and with 0 they are drawn as if they were all alike.

    node: of each row, [rows]; the rows of a unit have one node. unit: the user or the item of each row, [rows].
    """
    if share == 1:
        return node
    units, first, place = np.unique(unit, return_index=True, return_inverse=True)
    of_unit = node[first]
    loose = np.flatnonzero(rng.random(len(units)) >= share)
    of_unit[loose] = of_unit[rng.permutation(loose)]
    found: np.ndarray = of_unit[place]
    return found


def equal_groups(count: int, groups: int) -> np.ndarray:
    """Group numbers, ascending, in equal numbers up to one; int64 [count]."""
    return np.arange(count) * groups // max(count, 1)
