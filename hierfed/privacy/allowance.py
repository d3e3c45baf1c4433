"""What each round of a training may release, so that all its rounds together cost no more than the budget.

What has been spent is a function of the rounds that are done, and of nothing else: whoever goes on after a round, in
another process too, goes on with what the rounds before it have cost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache

from hierfed.privacy.accounting import Accountant, Budget, Releases, epsilon_of, noise_multiplier_of


@dataclass(frozen=True)
class Allowance:
    """The releases of each round, the same in all of them; calling it allows for one, and gives its noise.

    budget: before the first round, with nothing spent. rounds: that it must pay for. releases_of: from a node's number
    of rows, how many releases it makes in a round, and the chance of a unit to be in one of them. No unit is on two
    nodes, so each node may spend the whole budget.
    """

    budget: Budget
    rounds: int
    releases_of: Callable[[int], tuple[int, float]]

    def __call__(self, round_number: int, rows: int) -> float:
        """The noise multiplier of a node with so many rows in a round; raises BudgetSpent if that is not paid for.

        No round is allowed before all that are planned are known to be paid for.
        """
        _allow(self.budget, self.of_rounds(rows, max(round_number, self.rounds)))
        return self.of_a_round(rows).noise_multiplier

    def of_a_round(self, rows: int) -> Releases:
        """What a node with so many rows releases in one round."""
        count, sampling = self.releases_of(rows)
        budget = self.budget
        noise = _noise_multiplier(budget.epsilon, budget.delta, count * self.rounds, sampling, budget.accountant)
        return Releases(noise, count, sampling)

    def of_rounds(self, rows: int, done: int) -> Releases:
        """What a node with so many rows has released in the first rounds."""
        each = self.of_a_round(rows)
        return replace(each, count=each.count * done)

    def epsilon_spent(self, rows: Collection[int], done: int) -> float:
        """The most that the first rounds have cost a unit on any of the nodes with these rows."""
        if not done:
            return 0.0
        spent = {self.of_rounds(each, done) for each in rows}
        return max(epsilon_of([each], self.budget.delta, self.budget.accountant) for each in spent)


@lru_cache(maxsize=4096)
def _noise_multiplier(epsilon: float, delta: float, count: int, sampling: float, accountant: Accountant) -> float:
    """Found once for all nodes with as many rows."""
    return noise_multiplier_of(epsilon, delta, count, sampling, accountant)


@lru_cache(maxsize=4096)
def _allow(budget: Budget, releases: Releases) -> None:
    """Raise BudgetSpent where the budget does not allow for the releases."""
    budget.spend(releases)
