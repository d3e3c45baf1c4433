"""A server that follows the protocol and looks at the contributions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from hierfed.data.federation import Node
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel, SumMethod
from hierfed.federated.private import PrivateState


@dataclass
class SeenRound:
    """One round as the server sees it: the model that the round begins with, contributions, and their total.

    contributions: in the order of the nodes. With secure sums the total is all that is seen; None before it is there.
    """

    shared: SharedModel
    contributions: list[Contribution] = field(default_factory=list)
    total: Contribution | None = None

    def sum_of_all(self) -> Contribution:
        """The total; raises ValueError before the round has ended."""
        if self.total is None:
            raise ValueError(f"round {self.shared.round + 1} has not ended: there is no total yet")
        return self.total


@dataclass(frozen=True)
class CuriousServer:
    """A method that trains as the given one does, and records what the server sees in these rounds.

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

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The method's own; see SumMethod."""
        return self.method.checks(shared)

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The method's own; see SumMethod."""
        if shared.round + 1 in self.rounds:
            self.seen[shared.round + 1].total = total
        return self.method.combine(shared, total)
