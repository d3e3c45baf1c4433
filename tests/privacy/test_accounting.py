"""Budgets against published values, closed forms, and each other."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hierfed.privacy.accounting import Budget, BudgetSpent, Releases, epsilon_of, noise_multiplier_of

# Renyi and loss distributions, as an independent study of 2016's data had them.
KNOWN = [
    (Releases(1.0, 10), 1e-5, 19.0536, 17.8566),
    (Releases(5.0, 10), 1e-5, 2.8137, 2.5944),
    (Releases(1.0, 100, 0.1), 1e-5, 7.9039, 7.0466),
    (Releases(1.0, 1000, 0.01), 1e-5, 2.1014, 1.8282),
    (Releases(1.1, 1900, 32 / 1200), 1e-4, 6.1017, 5.5084),
]


@pytest.mark.parametrize(("releases", "delta", "renyi", "losses"), KNOWN)
def test_known_values(releases, delta, renyi, losses):
    assert epsilon_of([releases], delta, "rdp") == pytest.approx(renyi, abs=6e-5)
    assert epsilon_of([releases], delta, "pld") == pytest.approx(losses, abs=6e-5)


def test_the_value_in_the_tests_of_opacus_to_four_digits():
    assert epsilon_of([Releases(1.5, 2250, 0.04)], 1e-5) == pytest.approx(7.32911117143, rel=5e-5)


def test_loss_distributions_against_the_closed_form_of_the_gaussian():
    # Balle and Wang, ICML 2018, theorem 8.
    sigma, epsilon = 1.7, 2.0
    delta = norm.cdf(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * norm.cdf(
        -1 / (2 * sigma) - epsilon * sigma
    )
    assert epsilon_of([Releases(sigma)], delta, "pld") == pytest.approx(epsilon, rel=1e-3)


def test_nothing_costs_nothing():
    assert epsilon_of([], 1e-5) == 0.0
    assert Budget(1.0, 1e-5).epsilon_spent() == 0.0


def test_releases_compose_however_they_are_listed():
    split = [Releases(3.0, 4), Releases(3.0, 6)]
    assert epsilon_of(split, 1e-5) == pytest.approx(epsilon_of([Releases(3.0, 10)], 1e-5), abs=1e-12)


@settings(deadline=None, max_examples=8)
@given(st.floats(0.5, 10), st.integers(1, 50), st.sampled_from([1.0, 0.3, 0.01]))
def test_the_least_noise_spends_the_whole_budget(epsilon, count, sampling):
    noise = noise_multiplier_of(epsilon, 1e-5, count, sampling)
    assert epsilon_of([Releases(noise, count, sampling)], 1e-5) == pytest.approx(epsilon, rel=1e-5)


@pytest.mark.parametrize(("epsilon", "count", "sampling"), [(0.5, 3, 1.0), (2.0, 5, 1.0)])
def test_loss_distributions_spend_the_budget_with_less_noise(epsilon, count, sampling):
    noise = noise_multiplier_of(epsilon, 1e-5, count, sampling, "pld")
    assert epsilon_of([Releases(noise, count, sampling)], 1e-5, "pld") == pytest.approx(epsilon, rel=1e-5)
    assert noise < noise_multiplier_of(epsilon, 1e-5, count, sampling)


def test_noise_that_the_prototype_measured():
    found = [noise_multiplier_of(epsilon, 1e-5) for epsilon in (1, 2, 4, 8)]
    assert found == pytest.approx([4.045, 2.149, 1.158, 0.638], rel=0.01)


def test_an_infinite_budget_needs_no_noise():
    assert noise_multiplier_of(math.inf, 1e-5) == 0.0


def test_a_budget_stops_before_it_is_overspent():
    noise = noise_multiplier_of(2.0, 1e-5, count=3)
    budget = Budget(2.0, 1e-5)
    for _ in range(3):
        budget = budget.spend(Releases(noise))
    assert budget.epsilon_spent() == pytest.approx(2.0, rel=1e-5)
    with pytest.raises(BudgetSpent, match="nothing more is released"):
        budget.spend(Releases(noise))
    assert len(budget.spent) == 3
