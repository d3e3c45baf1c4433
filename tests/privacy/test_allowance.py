"""A training spends its budget round by round, all of it and no more, wherever it is gone on with."""

from __future__ import annotations

import pytest

from hierfed.privacy.accounting import Budget, BudgetSpent, Releases, epsilon_of, noise_multiplier_of
from hierfed.privacy.allowance import Allowance

BATCH = 50


def steps(rows: int) -> tuple[int, float]:
    """An epoch of batches of 50."""
    return -(-rows // BATCH), min(1.0, BATCH / rows)


def allowance(rounds: int = 4, epsilon: float = 3.0) -> Allowance:
    return Allowance(Budget(epsilon, 1e-5), rounds, steps)


@pytest.mark.parametrize("rows", [20, 50, 1000])
def test_all_rounds_together_cost_the_budget_at_each_node(rows):
    found = allowance()
    noise = {found(number, rows) for number in range(1, 5)}
    count, sampling = steps(rows)
    (multiplier,) = noise
    assert multiplier == pytest.approx(noise_multiplier_of(3.0, 1e-5, 4 * count, sampling), rel=1e-9)
    assert epsilon_of([Releases(multiplier, 4 * count, sampling)], 1e-5) == pytest.approx(3.0, rel=1e-5)


def test_a_node_that_takes_part_with_all_rows_gains_nothing_by_sampling():
    assert allowance().of_a_round(BATCH) == Releases(noise_multiplier_of(3.0, 1e-5, 4), 1, 1.0)


@pytest.mark.parametrize("rows", [20, 1000])
def test_a_round_too_many_is_refused_before_it_is_noised(rows):
    found = allowance()
    found(4, rows)
    with pytest.raises(BudgetSpent, match="nothing more is released"):
        found(5, rows)


@pytest.mark.parametrize(("done", "rows"), [(1, 30), (3, 30), (2, 1000), (6, 1000)])
def test_whoever_goes_on_has_what_the_rounds_before_have_cost(done, rows):
    """Another process makes its own allowance; it knows the settings and the number of the last round."""
    begun, resumed = allowance(6), allowance(6)
    by_round = [begun.of_a_round(rows)] * done
    budget = Budget(3.0, 1e-5)
    for each in by_round:
        budget = budget.spend(each)
    assert resumed.epsilon_spent([rows], done) == pytest.approx(budget.epsilon_spent(), rel=1e-9)
    assert resumed.epsilon_spent([rows], done) <= 3.0 * (1 + 1e-6)


def test_what_is_spent_grows_with_the_rounds_from_nothing():
    spent = [allowance().epsilon_spent([1000, 30], done) for done in range(5)]
    assert spent[0] == 0.0
    assert spent == sorted(spent)
    assert spent[4] == pytest.approx(3.0, rel=1e-5)


def test_what_is_spent_is_that_of_the_unit_with_the_least_protection():
    found = allowance()
    alone = [found.epsilon_spent([rows], 1) for rows in (30, 1000)]
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert found.epsilon_spent([30, 1000], 1) == max(alone)


def test_other_budgets_take_other_noise():
    noise = [allowance(epsilon=epsilon)(1, 20) for epsilon in (1.0, 2.0, 8.0)]
    assert noise == sorted(noise, reverse=True)
    assert allowance(rounds=8)(1, 20) > allowance(rounds=4)(1, 20)
