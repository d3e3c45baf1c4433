"""Partitioners by the rated items: users of popular and of rare ones, and nodes with catalogues of their own."""

from __future__ import annotations

import numpy as np

from hierfed.data.users_of_rows import equal_groups, of_rows, refuse_fewer, users_of


def by_popularity(user: np.ndarray, item: np.ndarray, nodes: int) -> np.ndarray:
    """Users by how popular their items are, in equal numbers up to one; node 0 holds the friends of rare items.

    A user's figure is the mean, over their rows, of the logarithm of the item's number of rows. Users of the same
    figure are in the order of their numbers.

    user, item: of each row, [rows].
    Gives the node of each row, [rows]. Raises DataError where there are fewer users than nodes.
    """
    users = users_of(user, nodes)
    popularity = np.log(np.bincount(item)[item])
    mean = np.bincount(user, popularity)[users] / np.bincount(user)[users]
    rank = np.empty(len(users), np.int64)
    # Sums in another order differ in their last digits, which must not part users alike.
    rank[np.argsort(mean.round(9), kind="stable")] = np.arange(len(users))
    return of_rows(user, users, equal_groups(len(users), nodes)[rank])


def by_catalogue(item: np.ndarray, nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Rows by item: each node has a catalogue of its own, of items at random in equal numbers up to one.

    A user's rows may lie on several nodes, as where people rate in each region what is on offer there.

    item: of each row, [rows].
    Gives the node of each row, [rows]. Raises DataError where there are fewer rated items than nodes.
    """
    items = np.unique(item)
    refuse_fewer(nodes, len(items), "rated items")
    group = equal_groups(len(items), nodes)[rng.permutation(len(items))]
    return group[np.searchsorted(items, item)].astype(np.min_scalar_type(nodes - 1))
