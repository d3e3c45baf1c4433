"""A private prior's budget: all of it is spent in three releases, no more, and not before."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import hierfed
from hierfed.methods.private_prior.priors import PriorAllowance, protect_prior
from hierfed.methods.private_prior.private_prior import RELEASES
from hierfed.privacy.accounting import Budget, BudgetSpent, Releases, epsilon_of, noise_multiplier_of
from hierfed.results import Result
from hierfed.settings import load_settings


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 8.0])
def test_all_releases_together_cost_the_budget_and_each_some_of_it(epsilon):
    allowance = PriorAllowance(Budget(epsilon, 1e-5))
    costs = [allowance.epsilon_spent(done) for done in range(4)]
    assert costs[0] == 0
    assert all(earlier < later for earlier, later in pairwise(costs))
    assert costs[-1] == pytest.approx(epsilon, rel=1e-6)
    together = 1 / math.sqrt(sum(each.noise_multiplier**-2 for each in allowance.releases))
    assert together == pytest.approx(noise_multiplier_of(epsilon, 1e-5), rel=1e-12)


def test_the_noise_is_that_of_the_published_multipliers():
    """One Gaussian release at delta 1e-5, by Renyi divergences."""
    for epsilon, multiplier in [(1.0, 4.045), (2.0, 2.149), (4.0, 1.158), (8.0, 0.638)]:
        allowance = PriorAllowance(Budget(epsilon, 1e-5))
        for number, release in enumerate(RELEASES, 1):
            assert allowance(number) == pytest.approx(multiplier / math.sqrt(release.share), rel=2e-3)


def test_a_release_that_is_not_paid_for_is_refused():
    poor = Budget(1.0, 1e-5, spent=(Releases(8.0),))
    allowance = PriorAllowance(poor)
    allowance(1)
    with pytest.raises(BudgetSpent, match="nothing more is released"):
        allowance(3)


def test_the_shares_are_the_whole():
    assert sum(release.share for release in RELEASES) == pytest.approx(1.0)


@pytest.mark.parametrize(("nodes", "colluding", "noise_nodes"), [(8, 0.33, 6), (8, 0.0, 8), (3, 0.34, 2)])
def test_honest_nodes_alone_add_all_the_noise(nodes, colluding, noise_nodes, make_content):
    settings = load_settings("private", {"nodes": nodes, "colluding": colluding})
    assert protect_prior(make_content(9), (0.5, 5.0), settings, None).method.noise_nodes == noise_nodes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The preset on a small table of ratings."""
    rng = np.random.default_rng(4)
    rows = [(user, item, rng.integers(1, 11) / 2) for user in range(15) for item in rng.permutation(20)[:10]]
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    path.write_text("user,item,rating\n" + "".join(f"{user},{item},{value}\n" for user, item, value in rows))

    def once(**changes) -> Result:
        given = {"nodes": 3, "personal_nodes": 3, "protocol": "warm", **changes}
        return hierfed.run("private", data=str(path), **given).result

    return once


@pytest.fixture(scope="module")
def first(run) -> Result:
    return run(epsilon=3.0, seed=1)


def test_a_run_tells_what_it_hides_and_spends_what_it_was_given(first):
    result, found = first, first.privacy
    assert (found.unit, found.epsilon, found.delta, found.accountant) == ("user", 3.0, 1e-5, "rdp")
    assert found.epsilon_spent == pytest.approx(3.0, rel=1e-6)
    assert [each.name for each in found.releases] == ["scales", "mean", "biases"]
    spent = [Releases(each.noise_multiplier, each.count, each.sampling) for each in found.releases]
    assert epsilon_of(spent, found.delta) == found.epsilon_spent
    assert all(record.train_loss == [] for record in result.rounds)
    assert np.isfinite(result.users.rmse_after)
    assert result.personal_baselines.local_only > 0


def test_the_same_seed_is_the_same_prior_and_another_one_has_other_noise(run, first):
    assert run(epsilon=3.0, seed=1).digest == first.digest
    assert run(epsilon=3.0, seed=2).digest != first.digest
