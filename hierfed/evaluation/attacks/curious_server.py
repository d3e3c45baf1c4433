"""A server that does as the protocol says and looks at what it is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from hierfed.data.federation import Node
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.personal.private import PrivateState


@dataclass
class SeenRound:
    """What the server of one round has seen: the model that it began with, and, from the nodes in their order, either
    every contribution, or with secure sums (`total`) nothing but their sum."""

    shared: SharedModel
    contributions: list[Contribution] = field(default_factory=list)
    total: Contribution | None = None


@dataclass(frozen=True)
class CuriousServer:
    """A method that trains as the given one does, and sets aside what the server sees in these rounds.

    rounds: numbers of rounds, those before round 1 too. seen: filled as the rounds end.
    """

    method: SumMethod
    rounds: Collection[int]
    seen: dict[int, SeenRound] = field(default_factory=dict)

    def start(self) -> SharedModel:
        """See SumMethod."""
        return self.method.start()

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The method's own, each looked at on its way; see SumMethod."""
        seen = SeenRound(shared)
        for contribution, kept in self.method.contribute(shared, nodes, private):
            if shared.round + 1 in self.rounds:
                seen.contributions.append(contribution)
                self.seen[shared.round + 1] = seen
            yield contribution, kept

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The method's own; see SumMethod."""
        if shared.round + 1 in self.rounds:
            self.seen[shared.round + 1].total = total
        return self.method.combine(shared, total)
