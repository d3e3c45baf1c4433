"""A partitioner by activity: users with few ratings on the first nodes, users with many on the last."""

from __future__ import annotations

import numpy as np

from hierfed.data.users_of_rows import equal_groups, of_rows, users_of


def by_activity(user: np.ndarray, nodes: int) -> np.ndarray:
    """Users by how many ratings they have, in equal numbers of users up to one.

    user: of each row, [rows]. Users with as many ratings are in the order of their numbers.
    Gives the node of each row, [rows]. Raises DataError where there are fewer users than nodes.
    """
    users = users_of(user, nodes)
    ratings = np.bincount(user)[users]
    rank = np.empty(len(users), np.int64)
    rank[np.argsort(ratings, kind="stable")] = np.arange(len(users))
    return of_rows(user, users, equal_groups(len(users), nodes)[rank])
