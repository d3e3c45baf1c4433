"""A private prior within its budget: the cost of each release, and the record of all."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from hierfed.data.content import Content
from hierfed.methods.private_prior.private_prior import RELEASES, PrivatePrior
from hierfed.privacy.accounting import Budget, Releases, epsilon_of, noise_multiplier_of
from hierfed.privacy.secure_sum.setup import colluders
from hierfed.private_randomness import PrivateStreams
from hierfed.results import PrivacyRecord, ReleaseRecord
from hierfed.settings import Settings

MECHANISM = (
    "Discrete Gaussian noise on the sum of users' clipped vectors, added by the nodes in shares, of which secure sums "
    "show the server the sum alone"
)


@dataclass(frozen=True)
class PriorAllowance:
    """The noise of each round's release, within a budget. A call gives the noise multiplier of a round.

    The releases share 1 / sigma^2, which adds up for Gaussian mechanisms, so together they cost the whole budget. The
    spent part follows from the number of finished rounds, as in allowance.Allowance.

    budget: before the first release.
    """

    budget: Budget
    releases: tuple[Releases, ...] = field(init=False)

    def __post_init__(self) -> None:
        whole = noise_multiplier_of(self.budget.epsilon, self.budget.delta, accountant=self.budget.accountant)
        made = tuple(Releases(whole / math.sqrt(release.share)) for release in RELEASES)
        object.__setattr__(self, "releases", made)

    def __call__(self, round_number: int) -> float:
        """The noise multiplier of a round's release. Raises BudgetSpent if the budget does not cover it."""
        left = self.budget
        for each in self.releases[:round_number]:
            left = left.spend(each)
        return self.releases[round_number - 1].noise_multiplier

    def epsilon_spent(self, done: int) -> float:
        """The epsilon that the first `done` rounds have cost each user."""
        return epsilon_of(self.releases[:done], self.budget.delta, self.budget.accountant)


@dataclass(frozen=True)
class ProtectedPrior:
    """The method with the budget of its releases."""

    method: PrivatePrior
    allowance: PriorAllowance

    def record(self, rows: Collection[int], rounds: int) -> PrivacyRecord:
        """The privacy record of the first rounds; it does not depend on the nodes' rows."""
        budget, made = self.allowance.budget, zip(RELEASES, self.allowance.releases, strict=True)
        return PrivacyRecord(
            unit="user",
            epsilon=budget.epsilon,
            epsilon_spent=self.allowance.epsilon_spent(rounds),
            delta=budget.delta,
            mechanism=MECHANISM,
            accountant=budget.accountant,
            releases=[
                ReleaseRecord(
                    name=release.name,
                    count=1,
                    sampling=1.0,
                    clip_norm=release.clip_norm,
                    noise_multiplier=paid.noise_multiplier,
                )
                for release, paid in list(made)[:rounds]
            ],
        )


def protect_prior(
    content: Content,
    limits: tuple[float, float],
    settings: Settings,
    streams: PrivateStreams | None,
    noise_nodes: int | None = None,
) -> ProtectedPrior:
    """The method of the settings, with its budget.

    streams: the nodes' noise streams; None at a server.
    noise_nodes: see PrivatePrior. None takes the number of nodes that do not collude; in one process all of them stay
    to the end.
    """
    privacy, nodes = settings.privacy, settings.federation.nodes
    allowance = PriorAllowance(Budget(privacy.epsilon, privacy.delta, privacy.accountant))
    noise_nodes = noise_nodes or nodes - colluders(nodes, privacy.colluding)
    return ProtectedPrior(
        PrivatePrior(content, limits, noise_nodes, allowance, streams, settings.training.threads), allowance
    )
