"""The releases of each round of a training, such that all its rounds together stay within the budget.

The cost so far depends only on the number of finished rounds: a process that resumes after a round continues with the
cost of the rounds before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache

from hierfed.privacy.accounting import Accountant, Budget, Releases, epsilon_of, noise_multiplier_of


@dataclass(frozen=True)
class Allowance:
    """The releases of each round, the same in all of them; calling it allows for one round, and gives its noise.

    budget: before the first round, with nothing spent.
    rounds: the number of rounds that it must pay for.
    releases_of: gives, for a node's number of rows, its releases in a round, and the chance of a unit to be in one of
        them.
    No unit is on two nodes, so each node may spend the whole budget.
    """

    budget: Budget
    rounds: int
    releases_of: Callable[[int], tuple[int, float]]

    def __call__(self, round_number: int, rows: int) -> float:
        """A node's noise multiplier in a round; raises BudgetSpent for a round that is not paid for.

        rows: the node's number of rows.
        The budget must pay for all planned rounds before any is allowed.
        """
        _allow(self.budget, self.of_rounds(rows, max(round_number, self.rounds)))
        return self.of_a_round(rows).noise_multiplier

    def of_a_round(self, rows: int) -> Releases:
        """The releases of a node with this many rows in one round."""
        count, sampling = self.releases_of(rows)
        budget = self.budget
        noise = _noise_multiplier(budget.epsilon, budget.delta, count * self.rounds, sampling, budget.accountant)
        return Releases(noise, count, sampling)

    def of_rounds(self, rows: int, done: int) -> Releases:
        """The releases of a node with this many rows in the first rounds."""
        each = self.of_a_round(rows)
        return replace(each, count=each.count * done)

    def epsilon_spent(self, rows: Collection[int], done: int) -> float:
        """The highest cost of the first rounds for a unit, over nodes with these numbers of rows."""
        if not done:
            return 0.0
        spent = {self.of_rounds(each, done) for each in rows}
        return max(epsilon_of([each], self.budget.delta, self.budget.accountant) for each in spent)


@lru_cache(maxsize=4096)
def _noise_multiplier(epsilon: float, delta: float, count: int, sampling: float, accountant: Accountant) -> float:
    """noise_multiplier_of, cached for all nodes with as many rows."""
    return noise_multiplier_of(epsilon, delta, count, sampling, accountant)


@lru_cache(maxsize=4096)
def _allow(budget: Budget, releases: Releases) -> None:
    """Raise BudgetSpent for releases beyond the budget."""
    budget.spend(releases)
