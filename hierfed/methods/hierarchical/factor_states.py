"""The state that nodes keep between the rounds of the hierarchical model, for one node or for many together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.federated.private import PrivateState
from hierfed.methods.hierarchical.cavity import own_ratings
from hierfed.methods.hierarchical.cohort import Cohort, cohort_of
from hierfed.methods.hierarchical.personalising import LastSums
from hierfed.methods.hierarchical.rows import UserRows
from hierfed.methods.hierarchical.users import Posterior, Users
from hierfed.models.symmetric import pack, unpack


@dataclass(frozen=True)
class Memory:
    """The users' memory of the last round in which they took part.

    mean [users, t], covariance [users, packed] and squared_error [users]: the posteriors that made the users' last
    sums.
    precision: [users].
    deviation [nodes, t]: each node's mean deviation of its users from their prior means.
    """

    mean: Tensor
    covariance: Tensor
    squared_error: Tensor
    precision: Tensor
    deviation: Tensor

    def of(self, users: slice | Tensor) -> Memory:
        """The memory of some of the users."""
        some = {name: values if name == "deviation" else values[users] for name, values in vars(self).items()}
        return Memory(**some)

    @property
    def posterior(self) -> Posterior:
        """The posteriors, unpacked."""
        return Posterior(self.mean, unpack(self.covariance, self.mean.shape[1]), self.squared_error)


@dataclass(frozen=True)
class FactorsState(PrivateState):
    """The state of a node: its rows, arranged, and its users' memory.

    cohort: the node's users and rows.
    arranged: the users of each piece of the cohort; empty until they are arranged.
    memory: None before the first round.
    """

    cohort: Cohort
    arranged: tuple[Users, ...] = ()
    memory: Memory | None = None

    def kept(self) -> dict[str, Tensor]:
        """The memory, if there is any; see PrivateState."""
        if self.memory is None:
            return {}
        found = self.memory.posterior
        return {**vars(found), "precision": self.memory.precision, "deviation": self.memory.deviation[0]}


def state_of(nodes: Sequence[Node], kept: PrivateState | None) -> FactorsState:
    """The state of nodes, from memory or from disk.

    From None, or from another method's state, it holds only their rows.
    """
    if isinstance(kept, FactorsState):
        return kept
    stored = kept.kept() if kept is not None else {}
    if not stored:
        return FactorsState(cohort_of(nodes))
    covariance, deviation = pack(stored["covariance"]), stored["deviation"][None]
    return FactorsState(cohort_of(nodes), (), Memory(**{**stored, "covariance": covariance, "deviation": deviation}))


def nothing_besides(node: Node) -> None:
    """A node whose users learn from its train rows only."""


def last_sums(trained: Cohort, memory: Memory, users: np.ndarray, rows: UserRows | None) -> LastSums:
    """The last messages of these users of a node.

    Users who sent nothing have no memory. Their entries are another user's, and no message of theirs is taken out.

    trained: the node's users with the rows that they sent.
    memory: the node's memory of these rows.
    users: the users' numbers, ascending.
    rows: the users' rows, if some may not have been sent; else None.
    """
    if rows is None:
        places = np.searchsorted(trained.users, users)
        here = memory.of(torch.from_numpy(places))
        return LastSums(here.posterior, here.precision)
    places = np.searchsorted(trained.users, users).clip(max=len(trained) - 1)
    here = memory.of(torch.from_numpy(places))
    user, item, _ = own_ratings(rows)
    first, last = np.searchsorted(trained.users, [users[0], users[-1] + 1])
    begin, end = trained.rows[[first, last]]
    sender = np.repeat(trained.users[first:last], np.diff(trained.rows[first : last + 1]))
    items = rows.rated.shape[1]
    sent = np.isin(users[user.numpy()] * items + item.numpy(), sender * items + trained.item[begin:end])
    return LastSums(here.posterior, here.precision, torch.from_numpy(sent))


@dataclass(frozen=True, eq=False)
class PooledStates(PrivateState, Sequence[FactorsState]):
    """The states of all nodes of a federation, without an object for each.

    cohort: the users of all nodes.
    arranged, memory: as in FactorsState.
    present [nodes]: True for nodes that have a memory; the others have not taken part yet.
    """

    cohort: Cohort
    arranged: tuple[Users, ...] = ()
    memory: Memory | None = None
    present: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def __len__(self) -> int:
        return len(self.cohort.nodes) - 1

    @overload
    def __getitem__(self, place: int) -> FactorsState: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[FactorsState]: ...
    def __getitem__(self, place: int | slice) -> FactorsState | Sequence[FactorsState]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        node = np.array([range(len(self))[place]])
        return FactorsState(self.cohort.of_nodes(node), (), self.remembered(node))

    def remembered(self, nodes: np.ndarray) -> Memory | None:
        """The memory of the nodes at these places; None if none of them has any.

        For nodes without a memory, precisions are NaN and deviations 0.
        """
        if self.memory is None or not self.present[nodes].any():
            return None
        if len(nodes) == len(self) and (np.diff(nodes) == 1).all():
            return self.memory
        users = torch.from_numpy(self.cohort.places_of(nodes))
        memory = {name: values[users] for name, values in vars(self.memory).items() if name != "deviation"}
        return Memory(**memory, deviation=self.memory.deviation[torch.from_numpy(nodes)])

    def of_nodes(self, nodes: np.ndarray) -> PooledStates:
        """The states of the nodes at these places."""
        present = self.present[nodes] if len(self.present) else self.present
        return PooledStates(self.cohort.of_nodes(nodes), (), self.remembered(nodes), present)

    def after(self, nodes: np.ndarray, memory: Memory) -> PooledStates:
        """The states after a round in which the nodes at these places took part."""
        present = self.present.copy() if len(self.present) else np.zeros(len(self), bool)
        present[nodes] = True
        if len(nodes) == len(self):
            return replace(self, memory=memory, present=present)
        users, places = torch.from_numpy(self.cohort.places_of(nodes)), torch.from_numpy(nodes)
        merged = {}
        for name, values in vars(memory).items():
            if self.memory is not None:
                whole = getattr(self.memory, name).clone()
            else:
                count = len(self) if name == "deviation" else len(self.cohort)
                whole = values.new_full((count, *values.shape[1:]), 0.0 if name == "deviation" else torch.nan)
            merged[name] = whole.index_copy_(0, places if name == "deviation" else users, values)
        return replace(self, memory=Memory(**merged), present=present)
