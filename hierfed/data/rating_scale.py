"""A partitioner by the use of the rating scale: each node has a shift and a spread of its own."""

from __future__ import annotations

import numpy as np

from hierfed.data.users_of_rows import equal_groups, of_rows, users_of
from hierfed.errors import DataError

# Fewer nodes are told apart by their shift alone.
FROM_NODES = 4


def by_scale(user: np.ndarray, value: np.ndarray, nodes: int) -> np.ndarray:
    """Users by the mean of their ratings, then by the ratings' standard deviation, in equal numbers up to one.

    Nodes 1 and 2 hold the users with the lowest means, of whom node 1 holds those with the smaller deviations; nodes
    3 and 4 the next, and so on. Fewer than FROM_NODES nodes are divided by the mean alone. Users who are alike are in
    the order of their numbers.

    user: of each row, [rows]. value: its rating, NaN where it must not be known; users of whom no rating is known
    count as average.
    Gives the node of each row, [rows]. Raises DataError where there are fewer users than nodes, or all ratings are one.
    """
    users, known = users_of(user, nodes), np.isfinite(value)
    if not known.any() or np.ptp(value[known]) == 0:
        raise DataError("partition 'scale' needs ratings that differ, and all are one value: choose 'users' or 'rows'")
    count = np.bincount(user[known], minlength=users[-1] + 1)[users]
    # Deviations from the mean of all, so that the squares' sums keep their digits.
    centred = value[known].astype(np.float64) - value[known].mean(dtype=np.float64)
    sums, squares = (
        np.bincount(user[known], power, minlength=users[-1] + 1)[users] / np.maximum(count, 1)
        for power in (centred, centred**2)
    )
    # Sums in another order differ in their last digits, which must not part users alike.
    shift, spread = sums.round(9), np.sqrt(np.maximum(squares - sums**2, 0)).round(9)
    node = equal_groups(len(users), nodes)
    order = np.argsort(shift, kind="stable")
    if nodes >= FROM_NODES:
        pair = np.empty(len(users), np.int64)
        pair[order] = node // 2
        order = np.lexsort((spread, pair))
    of_user = np.empty(len(users), np.int64)
    of_user[order] = node
    return of_rows(user, users, of_user)
