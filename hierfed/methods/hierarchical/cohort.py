"""The users of one node or of many, node after node, cut into pieces that are processed one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, train_rows
from hierfed.data.ratings import Ratings, concatenated
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.rows import arrange
from hierfed.methods.hierarchical.users import Users, prepare
from hierfed.models.threads import in_order

# Most ratings of a piece, unless one user has more. The arrays that a round makes of a piece stay in a core's
# cache. Sums are added piece by piece, so that they depend on nothing but the rows.
PIECE_ROWS = 1 << 16


@dataclass(frozen=True)
class Team:
    """The threads that share the pieces.

    threads: number of threads.
    chunk_rows: about how many ratings a thread takes at a time.
    """

    threads: int = 1
    chunk_rows: int = PIECE_ROWS


@dataclass(frozen=True)
class Part:
    """The contribution of some users to the sums of a round.

    sent: the places of the shared items that these users have rated.
    of_items: rows of sums for the items at `sent`.
    in_all: sums that belong to no item.
    """

    sent: Tensor
    of_items: Mapping[str, Tensor]
    in_all: Mapping[str, Tensor]


def add_up(parts: Iterable[Part], items: int) -> dict[str, Tensor]:
    """The sums, added part by part.

    items: number of shared items; the sums have a row for each.
    """
    total: dict[str, Tensor] = {}
    for part in parts:
        for name, values in part.of_items.items():
            if name not in total:
                total[name] = values.new_zeros(items, values.shape[1])
            total[name].index_add_(0, part.sent, values)
        for name, values in part.in_all.items():
            total[name] = total[name].add_(values) if name in total else values.clone()
    return total


@dataclass(frozen=True, eq=False)
class Cohort:
    """Users by node, and within a node by number.

    users: int64 [users], their numbers.
    rows: int64 [users + 1], the place where each user's ratings begin.
    nodes: int64 [nodes + 1], the place where each node's users begin.
    item, value: [rows], the ratings.
    time: [rows], when they were given, in seconds since 1970; None if that is not known.
    """

    users: np.ndarray
    rows: np.ndarray
    nodes: np.ndarray
    item: np.ndarray
    value: np.ndarray
    time: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def pieces(self) -> list[slice]:
        """The users of each piece."""
        cuts = [0]
        while cuts[-1] < len(self):
            end = np.searchsorted(self.rows, self.rows[cuts[-1]] + PIECE_ROWS, side="right") - 1
            cuts.append(max(int(end), cuts[-1] + 1))
        return [slice(begin, end) for begin, end in itertools.pairwise(cuts)]

    @cached_property
    def users_of_nodes(self) -> Tensor:
        """The number of users of each node, float64 [nodes]."""
        return torch.from_numpy(np.diff(self.nodes)).double()

    @cached_property
    def node_of_users(self) -> Tensor:
        """The place of each user's node, int64 [users]."""
        return torch.from_numpy(np.repeat(np.arange(len(self.nodes) - 1), np.diff(self.nodes)))

    def of_nodes(self, places: np.ndarray) -> Cohort:
        """The users of the nodes at these places only."""
        users, nodes = _spans(self.nodes, places)
        rows, starts = _spans(self.rows, users)
        time = None if self.time is None else self.time[rows]
        return Cohort(self.users[users], starts, nodes, self.item[rows], self.value[rows], time)

    def of_users(self, numbers: np.ndarray) -> Cohort:
        """The users of the only node who have these numbers."""
        places = np.flatnonzero(np.isin(self.users, numbers))
        rows, starts = _spans(self.rows, places)
        time = None if self.time is None else self.time[rows]
        nodes = np.array([0, len(places)])
        return Cohort(self.users[places], starts, nodes, self.item[rows], self.value[rows], time)

    def numbered_among_all(self, first: int, stride: int) -> Cohort:
        """The same users, numbered by their node too: node * stride + number; first: the number of the first node."""
        nodes = np.repeat(np.arange(first, first + len(self.nodes) - 1), np.diff(self.nodes))
        return replace(self, users=nodes * stride + self.users)

    def joined(self, besides: Ratings) -> Cohort:
        """The users of the only node, with further rows of theirs and with users who have no rows here."""
        mine = Ratings(np.repeat(self.users, np.diff(self.rows)), self.item, self.value, self.time)
        rows = concatenated([mine, besides])
        return cohort_of([Node(0, "", rows, rows.between(0, 0))])

    def times_of(self, users: slice) -> Tensor | None:
        """When these users' ratings were given, as `own_ratings` orders them: float64 [ratings]; None if not known."""
        begin, end = int(self.rows[users.start]), int(self.rows[users.stop])
        return None if self.time is None else torch.from_numpy(self.time[begin:end]).double()

    def places_of(self, nodes: np.ndarray) -> np.ndarray:
        """The places of all users of the nodes at these places, int64."""
        return _spans(self.nodes, nodes)[0]

    def parts(self, work: Callable[[int], Part], team: Team, on_done: Callable[[float], None]) -> Iterator[Part]:
        """The result of `work` for the number of each piece, in order.

        on_done: called with the share of the ratings that is done.
        """
        at_once = max(team.chunk_rows // PIECE_ROWS, 1)
        pieces = range(len(self.pieces))
        chunks = [pieces[begin : begin + at_once] for begin in pieces[::at_once]]
        for chunk, made in zip(chunks, in_order(lambda chunk: [*map(work, chunk)], chunks, team.threads), strict=True):
            yield from made
            on_done(float(self.rows[self.pieces[chunk[-1]].stop] / len(self.item)))

    def arranged(self, users: slice, scale: Tensor, design: Design) -> Users:
        """Some of the users, ready for the rounds.

        scale: the centre and the unit of ratings.
        """
        begin, end = int(self.rows[users.start]), int(self.rows[users.stop])
        counts = np.diff(self.rows[users.start : users.stop + 1])
        # Users are numbered by place: a user of several nodes counts as a different user on each.
        places = np.repeat(np.arange(users.start, users.stop), counts)
        centre, unit = scale
        value = (torch.from_numpy(self.value[begin:end]).double() - centre) / unit
        rows = arrange(places, self.item[begin:end], value, design.padded_content, design.shared)
        return prepare(rows, design)


def cohort_of(nodes: Sequence[Node]) -> Cohort:
    """All users of these nodes."""
    ends, train = train_rows(nodes)
    node = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    same = np.zeros(len(node), bool)
    same[1:] = (node[1:] == node[:-1]) & (train.user[1:] == train.user[:-1])
    later = train.user[1:] >= train.user[:-1]
    if not (later | (node[1:] > node[:-1])).all():
        order = np.lexsort((train.user, node))
        train, node = train.take(order), node[order]
        same[1:] = (node[1:] == node[:-1]) & (train.user[1:] == train.user[:-1])
    starts = np.flatnonzero(~same)
    counts = np.bincount(node[starts], minlength=len(nodes))
    return Cohort(
        users=train.user[starts].astype(np.int64),
        rows=np.append(starts, len(node)),
        nodes=np.concatenate([[0], np.cumsum(counts)]),
        item=train.item,
        value=train.value,
        time=train.time,
    )


def _spans(offsets: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries of the spans at these places, one span after the other, and their offsets [spans + 1]."""
    lengths = offsets[places + 1] - offsets[places]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return np.repeat(offsets[places] - ends[:-1], lengths) + np.arange(ends[-1]), ends
