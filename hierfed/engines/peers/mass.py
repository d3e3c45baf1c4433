"""One peer's side of push-sum, over links to real neighbours; hierfed.federated.push_sum simulates all sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.federated.graphs import Neighbours
from hierfed.federated.push_sum import MOST_EXCHANGES, TOLERANCE, Link, split

Message = tuple[int, Tensor]
"""The number of a message on its link, and the count of all that went over the link so far."""


@dataclass
class OwnMass:
    """The mass of one peer during a sum: its share of all contributions, and of their weights.

    held: [numbers + 1]; the last one is the weight. place: the peer's, among `peers`.
    """

    held: Tensor
    place: int
    peers: int
    neighbours: Neighbours
    links_out: dict[int, Link] = field(default_factory=dict)
    links_in: dict[int, Link] = field(default_factory=dict)

    @classmethod
    def of(cls, contribution: Contribution, place: int, peers: int, neighbours: Neighbours) -> OwnMass:
        """The mass at the beginning of a sum: the peer's own contribution, and the weight 1."""
        flat = [array.reshape(-1) for array in contribution.arrays.values()]
        return cls(torch.cat([*flat, torch.ones(1, dtype=torch.float64)]), place, peers, neighbours)

    def send(self, exchange: int) -> dict[int, Message]:
        """The message to each neighbour; the peer keeps the rest."""
        to = self.neighbours(exchange)[self.place]
        share = self.held / (1 + len(to))
        self.held = share
        return {other: self._link(self.links_out, other).make(share) for other in to}

    def awaited(self, exchange: int) -> dict[int, int]:
        """The peers whose message this exchange needs, and its number on their link."""
        senders = [peer for peer, to in enumerate(self.neighbours(exchange)) if self.place in to]
        return {peer: self._link(self.links_in, peer).last + 1 for peer in senders}

    def take(self, sender: int, message: Message) -> None:
        """Add what a message brings: nothing where it, or a later one, was taken before."""
        self.held = self.held + self._link(self.links_in, sender).take(message)

    def total(self, like: Contribution) -> Contribution:
        """The peer's estimate of the sum of all contributions. like: one with the same arrays."""
        row = self.held[:-1] / self.held[-1] * self.peers
        sizes = [array.numel() for array in like.arrays.values()]
        return Contribution(dict(split(row, like.arrays, sizes)))

    def _link(self, links: dict[int, Link], other: int) -> Link:
        nothing = torch.zeros_like(self.held)
        return links.setdefault(other, Link(nothing, nothing))


def exchanges_needed(neighbours: Neighbours, peers: int) -> int:
    """The number of exchanges after which all peers have one total, whatever they began with: all know it beforehand.

    Raises HierfedError for a graph on which they never come to one.
    """
    mixed, done = torch.eye(peers, dtype=torch.float64), 0
    while peers > 1 and _spread(mixed) > TOLERANCE:
        if done == MOST_EXCHANGES:
            raise HierfedError(f"federation.graph: {peers} peers have no common total after {done:,} exchanges")
        mixed, done = _step(neighbours(done)) @ mixed, done + 1
    return done


def _step(neighbours: Sequence[Sequence[int]]) -> Tensor:
    step = torch.zeros(len(neighbours), len(neighbours), dtype=torch.float64)
    for peer, to in enumerate(neighbours):
        step[[peer, *to], peer] = 1 / (1 + len(to))
    return step


def _spread(mixed: Tensor) -> float:
    """The largest difference of two peers' shares of one contribution, of weights that come to 1."""
    shares = mixed / mixed.sum(1, keepdim=True)
    return float((shares.amax(0) - shares.amin(0)).max()) * len(mixed)
