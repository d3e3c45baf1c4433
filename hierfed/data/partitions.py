"""Partitions of rows among nodes: uniform, skewed in size, in taste, in time, in the items or in the use of the scale.

Each partitioner takes the rows to divide and gives the node number of each [rows], in the smallest unsigned type. All
except `by_rows` and `by_catalogue` keep a user's rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hierfed.data.activity import by_activity
from hierfed.data.popularity import by_catalogue, by_popularity
from hierfed.data.rating_scale import by_scale
from hierfed.data.users_of_rows import equal_groups, of_rows, refuse_fewer, swapped, users_of
from hierfed.errors import DataError
from hierfed.lookup import look_up as look_up_in

ATTEMPTS = 100


def by_rows(rows: int, nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Rows at random, in equal numbers up to one. A user's rows may lie on several nodes."""
    return _shuffled_groups(rows, nodes, rng).astype(np.min_scalar_type(nodes - 1))


def by_users(user: np.ndarray, nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Users at random, in equal numbers up to one."""
    users = users_of(user, nodes)
    return of_rows(user, users, _shuffled_groups(len(users), nodes, rng))


def by_group_size(user: np.ndarray, nodes: int, skew: float, rng: np.random.Generator) -> np.ndarray:
    """Users at random in groups of unequal size. The share of users in group k is proportional to (k + 1) ** -skew.

    Each group gets at least one user; skew 0 is `by_users`.
    """
    users = users_of(user, nodes)
    share = np.arange(1, nodes + 1) ** -float(skew)
    ends = np.round(np.cumsum(share) / share.sum() * (len(users) - nodes)).astype(np.int64) + np.arange(1, nodes + 1)
    group = np.repeat(np.arange(nodes), np.diff(ends, prepend=0))
    return of_rows(user, users, group[rng.permutation(len(users))])


def by_favourite_genre(
    user: np.ndarray,
    genre_flags: np.ndarray,
    nodes: int,
    concentration: float,
    rng: np.random.Generator,
    item: np.ndarray | None = None,
) -> np.ndarray:
    """Users by taste: the users of one favourite genre are spread over nodes with shares ~ Dirichlet(concentration).

    A user's favourite is the genre of most of their rows (the first on a tie). Small concentrations give nodes of one
    taste, large ones give similar nodes. Shares are drawn again, up to 100 times, while a node is empty.

    Source: Hsu, Qi and Brown, 2019, arXiv:1909.06335.

    genre_flags: [rows, genres], the genres of each row's item; or [items, genres] if `item` is given.
    item: each row's item, [rows].
    """
    users = users_of(user, nodes)
    if genre_flags.shape[1] == 0:
        raise DataError("partition 'genre' needs genres, and this source has none: choose 'users' or 'rows'")
    counts = [np.bincount(user, flags if item is None else flags[item])[users] for flags in genre_flags.T]
    favourite = np.argmax(counts, axis=0)
    for _ in range(ATTEMPTS):
        ends = np.cumsum(rng.dirichlet(np.full(nodes, concentration), size=genre_flags.shape[1]), axis=1)
        draws, node = rng.random(len(users)), np.empty(len(users), np.int64)
        for genre, end in enumerate(ends):
            fans = favourite == genre
            node[fans] = np.minimum(np.searchsorted(end, draws[fans]), nodes - 1)
        if len(np.unique(node)) == nodes:
            return of_rows(user, users, node)
    raise DataError(
        f"partition 'genre': a node had no users in each of {ATTEMPTS} draws with concentration {concentration:g} over "
        f"{nodes} nodes and {len(users):,} users: use fewer nodes or a larger concentration"
    )


def by_time(user: np.ndarray, time: np.ndarray, nodes: int) -> np.ndarray:
    """Users by the time of their first rating, in equal numbers up to one; node 0 holds the earliest users."""
    users = users_of(user, nodes)
    first = np.full(users[-1] + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, user, time)
    rank = np.empty(len(users), np.int64)
    rank[np.argsort(first[users], kind="stable")] = np.arange(len(users))
    return of_rows(user, users, equal_groups(len(users), nodes)[rank])


@dataclass(frozen=True)
class RowsToDivide:
    """The input of a partitioner.

    user, item, time: of each row, [rows]; time is None if the source has none.
    nodes: number of nodes that share the rows.
    skew, concentration: see `by_group_size` and `by_favourite_genre`.
    sorted_share: of the users, or items, that stay where a partitioner that sorts them puts them.
    genre_flags: gives bool [items, genres]; only a partitioner that needs genres calls it.
    value: gives the rating of each row, [rows], NaN for rows that are not learned from; likewise.
    rng: the generator of this division.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None
    nodes: int
    skew: float
    concentration: float
    sorted_share: float
    genre_flags: Callable[[], np.ndarray]
    value: Callable[[], np.ndarray]
    rng: np.random.Generator


@dataclass(frozen=True)
class Partitioner:
    """A way to divide rows among nodes.

    divide: gives the node of each row, [rows].
    Raises DataError if there are too few rows or users, or if the source lacks the data that the partitioner needs.
    keeps_users: True if all rows of a user lie on one node.
    """

    divide: Callable[[RowsToDivide], np.ndarray]
    keeps_users: bool = True


def _rows(rows: RowsToDivide) -> np.ndarray:
    refuse_fewer(rows.nodes, len(rows.user), "rows")
    return by_rows(len(rows.user), rows.nodes, rows.rng)


def _time(rows: RowsToDivide) -> np.ndarray:
    if rows.time is None:
        raise DataError("partition 'time' needs timestamps, and this source has none: choose 'users' or 'rows'")
    return by_time(rows.user, rows.time, rows.nodes)


def _users_sorted(divide: Callable[[RowsToDivide], np.ndarray]) -> Callable[[RowsToDivide], np.ndarray]:
    return lambda rows: swapped(divide(rows), rows.user, rows.sorted_share, rows.rng)


def _catalogue(rows: RowsToDivide) -> np.ndarray:
    return swapped(by_catalogue(rows.item, rows.nodes, rows.rng), rows.item, rows.sorted_share, rows.rng)


PARTITIONERS: Mapping[str, Partitioner] = {
    "rows": Partitioner(_rows, keeps_users=False),
    "users": Partitioner(lambda rows: by_users(rows.user, rows.nodes, rows.rng)),
    "sizes": Partitioner(lambda rows: by_group_size(rows.user, rows.nodes, rows.skew, rows.rng)),
    "genre": Partitioner(
        lambda rows: by_favourite_genre(
            rows.user, rows.genre_flags(), rows.nodes, rows.concentration, rows.rng, rows.item
        )
    ),
    "time": Partitioner(_users_sorted(_time)),
    "activity": Partitioner(_users_sorted(lambda rows: by_activity(rows.user, rows.nodes))),
    "popularity": Partitioner(_users_sorted(lambda rows: by_popularity(rows.user, rows.item, rows.nodes))),
    "scale": Partitioner(_users_sorted(lambda rows: by_scale(rows.user, rows.value(), rows.nodes))),
    "catalogue": Partitioner(_catalogue, keeps_users=False),
}
"""The partitioners by their names in the settings."""

WHOLE_USERS: Mapping[str, Partitioner] = {name: each for name, each in PARTITIONERS.items() if each.keeps_users}
"""The partitioners that keep a user's rows together."""


def partitioner_of(name: str) -> Partitioner:
    """The partitioner of this name. Raises SettingsError for an unknown name."""
    return look_up_in(PARTITIONERS, name, "partition")


def _shuffled_groups(count: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    shuffled: np.ndarray = equal_groups(count, groups)[rng.permutation(count)]
    return shuffled
