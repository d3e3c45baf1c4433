"""Shared by partitioners: the users of rows, and a node for each row from a node for each user."""

from __future__ import annotations

import numpy as np

from hierfed.data.grouping import distinct, look_up
from hierfed.errors import DataError


def users_of(user: np.ndarray, nodes: int) -> np.ndarray:
    """The users who have rows, ascending; raises DataError where they are fewer than the nodes."""
    users = distinct(user)
    refuse_fewer(nodes, len(users), "users")
    return users


def refuse_fewer(nodes: int, available: int, kind: str) -> None:
    """Raise DataError where there are fewer users, or rows, than nodes; kind: of which."""
    if available < nodes:
        raise DataError(f"{nodes} nodes cannot share {available} {kind}: use at most {available} nodes")


def of_rows(user: np.ndarray, users: np.ndarray, node: np.ndarray) -> np.ndarray:
    """The node of each row from the node of each of the distinct users."""
    of_user = np.empty(users[-1] + 1, np.min_scalar_type(int(node.max())))
    of_user[users] = node
    return look_up(of_user, user)


def equal_groups(count: int, groups: int) -> np.ndarray:
    """Group numbers, ascending, in equal numbers up to one; int64 [count]."""
    return np.arange(count) * groups // max(count, 1)
