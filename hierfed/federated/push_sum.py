"""Push-sum: peers without a server come to one total of their contributions. Free of torch until it is used.

Source: Kempe, Dobra and Gehrke, Gossip-Based Computation of Aggregate Information, FOCS 2003. Lost messages: Vaidya,
Hadjicostis and Dominguez-Garcia, Robust Average Consensus over Packet Dropping Links, 2011, arXiv:1110.5215.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError
from hierfed.federated.graphs import Graph
from hierfed.federated.rules import Summed

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution

TOLERANCE = 1e-13
"""Peers are at one where their totals differ by no more than this, relative to each array's largest entry."""

MOST_EXCHANGES = 20_000


@dataclass
class Link:
    """The way from one peer to another: both ends count what went over it since the beginning.

    A message holds the whole count, so that the next one makes up for one that was lost, and one that comes twice, or
    after a later one, adds nothing.

    sent: the sender's count. taken: the receiver's. number: of the last message that was made. last: that was taken.
    """

    sent: Tensor
    taken: Tensor
    number: int = 0
    last: int = 0

    def make(self, mass: Tensor) -> tuple[int, Tensor]:
        """The message that sends this mass: its number, and the count."""
        self.sent, self.number = self.sent + mass, self.number + 1
        return self.number, self.sent

    def take(self, message: tuple[int, Tensor]) -> Tensor:
        """The mass that a message adds."""
        number, count = message
        if number <= self.last:
            return count.new_zeros(len(count))
        mass = count - self.taken
        self.taken, self.last = count, number
        return mass

    @property
    def under_way(self) -> Tensor:
        """The mass that was sent and not taken."""
        return self.sent - self.taken


@dataclass
class Masses:
    """The masses of all peers, [peers, numbers + 1]; the last column is the weight. Their total never changes.

    lost: the share of messages that are lost, drawn from `seed` and the number of the sum.
    """

    held: Tensor
    lost: float = 0.0
    seed: int = 0
    number: int = 0
    links: dict[tuple[int, int], Link] = field(default_factory=dict)
    messages: int = 0

    def exchange(self, exchange: int, neighbours: Sequence[Sequence[int]]) -> None:
        """Every peer keeps a share of its mass, and sends one to each of its neighbours."""
        kept = self.held.clone()
        shares = [self.held[peer] / (1 + len(to)) for peer, to in enumerate(neighbours)]
        for peer, share in enumerate(shares):
            kept[peer] = share
        for peer, to in enumerate(neighbours):
            drops = self._drops(exchange, peer, len(to))
            for other, dropped in zip(to, drops, strict=True):
                self.messages += 1
                if not self.lost:
                    kept[other] += shares[peer]
                    continue
                nothing = shares[peer].new_zeros(len(shares[peer]))
                link = self.links.setdefault((peer, other), Link(nothing, nothing))
                message = link.make(shares[peer])
                if not dropped:
                    kept[other] += link.take(message)
        self.held = kept

    def total(self) -> Tensor:
        """The sum of all that peers hold and of all that is under way, [numbers + 1]."""
        return self.held.sum(0) + sum(link.under_way for link in self.links.values())

    def estimates(self) -> Tensor:
        """Each peer's total of the contributions, [peers, numbers]."""
        return self.held[:, :-1] / self.held[:, -1:] * len(self.held)

    def _drops(self, exchange: int, peer: int, count: int) -> list[bool]:
        if not self.lost:
            return [False] * count
        from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

        random = generator(self.seed, self.number, peer, f"lost messages {exchange}")
        return [bool(drawn < self.lost) for drawn in random.random(count)]


@dataclass(frozen=True)
class Agreed:
    """The totals that peers came to, one each. bytes: that all of them sent. exchanges: their number."""

    totals: list[Contribution]
    bytes: int
    exchanges: int


@dataclass(frozen=True)
class PushSum:
    """Exchanges until all peers have one total, or a fixed number of them; see Rule, which gives the first peer's.

    A message is a share of the sender's contributions so far, and its weight.

    exchanges: their number; 0 for as many as it takes. lost: the share of messages that are lost.
    """

    graph: Graph
    exchanges: int = 0
    lost: float = 0.0
    seed: int = 0

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule."""
        agreed = self.agree([contribution for _, contribution in contributions])
        return Summed(agreed.totals[0], agreed.bytes)

    def agree(self, contributions: Sequence[Contribution], number: int = 0) -> Agreed:
        """Every peer's total. number: of the sum, so that other messages are lost in each.

        Raises ValueError without peers, HierfedError where they do not come to one total.
        """
        import torch  # noqa: PLC0415 - settings are checked without it

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        if not contributions:
            raise ValueError("no node contributed")
        first, count = contributions[0], len(contributions)
        for each in contributions[1:]:
            first.check_alike(each)
        flat = [torch.cat([*(array.reshape(-1) for array in each.arrays.values())]) for each in contributions]
        weight = torch.ones(count, 1, dtype=torch.float64)
        masses = Masses(torch.cat([torch.stack(flat), weight], 1), self.lost, self.seed, number)
        sizes = [array.numel() for array in first.arrays.values()]
        neighbours = self.graph(count, self.seed)
        done = 0
        while count > 1 and not self._over(done, masses, sizes):
            if done == MOST_EXCHANGES:
                raise HierfedError(
                    f"federation.graph: {count} peers have no common total after {done:,} exchanges: take a graph with "
                    "more links, such as 'exponential'"
                )
            masses.exchange(done, neighbours(done))
            done += 1
        message = 8 * (sum(sizes) + 1)
        totals = [Contribution(dict(split(row, first.arrays, sizes))) for row in masses.estimates()]
        return Agreed(totals, masses.messages * message, done)

    def _over(self, done: int, masses: Masses, sizes: Sequence[int]) -> bool:
        if self.exchanges:
            return done == self.exchanges
        if not done:
            return False
        estimates, ends = masses.estimates(), accumulate(sizes)
        parts = (estimates[:, end - size : end] for size, end in zip(sizes, ends, strict=True))
        return all(_spread(part) <= TOLERANCE for part in parts if part.numel())


def _spread(part: Tensor) -> float:
    """The largest difference between peers, relative to the largest entry; 0 for zeros."""
    largest = float(part.abs().max())
    return float((part.amax(0) - part.amin(0)).max()) / largest if largest else 0.0


def split(row: Tensor, like: Mapping[str, Tensor], sizes: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    """The arrays in a row of numbers, by name. like: arrays of the same shapes. sizes: their numbers of entries."""
    for (name, array), size, end in zip(like.items(), sizes, accumulate(sizes), strict=True):
        yield name, row[end - size : end].reshape(array.shape).clone()
