"""The cost of Gaussian releases in differential privacy, by Google's dp-accounting. Needs the extra `privacy`.

A mechanism is given by its noise multiplier: the noise's standard deviation over the L2 sensitivity. The sensitivity is
the largest change from adding or removing one unit (an example, a user, a node).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq

from hierfed.errors import HierfedError

Accountant = Literal["rdp", "pld"]
# Every useful noise multiplier lies between them.
LEAST_NOISE, MOST_NOISE = 1e-2, 1e6
LEAST_EPSILON = 1e-12


class BudgetSpent(HierfedError):
    """A release would cost more than what is left of the budget."""


@dataclass(frozen=True)
class Releases:
    """A number of Gaussian releases alike.

    sampling: the chance of each unit to be in a release, drawn anew for each (Poisson). Only such a sample amplifies: a
        batch of fixed size, or a choice of nodes by the server, does not count as one.
    """

    noise_multiplier: float
    count: int = 1
    sampling: float = 1.0

    def event(self) -> dp_accounting.DpEvent:
        """The releases as an event of dp-accounting."""
        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        if self.sampling < 1:
            event = dp_accounting.PoissonSampledDpEvent(self.sampling, event)
        return dp_accounting.SelfComposedDpEvent(event, self.count)


@dataclass(frozen=True)
class Budget:
    """The privacy budget, and the releases that it has paid for."""

    epsilon: float
    delta: float
    accountant: Accountant = "rdp"
    spent: tuple[Releases, ...] = ()

    def spend(self, releases: Releases) -> Budget:
        """The budget after these releases, before they are made; raises BudgetSpent if it does not allow for them."""
        after = Budget(self.epsilon, self.delta, self.accountant, (*self.spent, releases))
        cost = after.epsilon_spent()
        # The noise comes from a root finder, which may end a little on either side.
        if cost > self.epsilon * (1 + 1e-6):
            raise BudgetSpent(
                f"privacy budget: {releases.count} more releases would cost epsilon {cost:.4f} in all, and it is "
                f"{self.epsilon:g} (delta {self.delta:g}): nothing more is released"
            )
        return after

    def epsilon_spent(self) -> float:
        """The epsilon of all releases so far."""
        return epsilon_of(self.spent, self.delta, self.accountant)


def epsilon_of(releases: Iterable[Releases], delta: float, accountant: Accountant = "rdp") -> float:
    """The epsilon at this delta of all these releases together, under addition or removal of one unit.

    accountant: `rdp` uses Renyi divergences (Mironov, 2017); `pld` uses privacy loss distributions (Sommer et al.,
        2019), tighter and slower.
    """
    ledger = PLDAccountant() if accountant == "pld" else RdpAccountant()
    empty = True
    with _quiet():
        for each in releases:
            ledger.compose(each.event())
            empty = False
        return 0.0 if empty else float(ledger.get_epsilon(delta))


def noise_multiplier_of(
    epsilon: float, delta: float, count: int = 1, sampling: float = 1.0, accountant: Accountant = "rdp"
) -> float:
    """The least noise multiplier for this many releases within this epsilon; 0 for an infinite one."""
    if math.isinf(epsilon):
        return 0.0

    def excess(log_noise: float) -> float:
        found = epsilon_of([Releases(math.exp(log_noise), count, sampling)], delta, accountant)
        # Logarithms make this nearly linear in log_noise, which saves a third of the steps.
        return math.log(max(found, LEAST_EPSILON) / epsilon)

    low, high = math.log(LEAST_NOISE), math.log(MOST_NOISE)
    if accountant == "pld":
        # Loss distributions under little noise are huge. The noise by Renyi divergences is a close upper bound.
        high = math.log(noise_multiplier_of(epsilon, delta, count, sampling, "rdp") * 1.01)
        low = high - math.log(2)
    if excess(high) > 0:
        raise HierfedError(f"no noise is enough for epsilon {epsilon:g} at delta {delta:g}: raise one of them")
    if excess(low) <= 0:
        return math.exp(low)
    return math.exp(float(brentq(excess, low, high, xtol=1e-9)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings for Renyi orders that the minimum leaves out anyhow."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
