"""A user's own messages taken out of the items, against items to which they were never sent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths
from hierfed.methods.hierarchical.cavity import own_ratings, without_own
from hierfed.methods.hierarchical.items import update_items
from hierfed.methods.hierarchical.users import Posterior, item_sums, posterior

TAU = (0.7, 1.1, 1.9, 0.4, 2.5, 1.0, 0.8)


def sums_of_users(problem, found: Posterior, tau: torch.Tensor, chosen: list[int]) -> dict[str, torch.Tensor]:
    """What these users alone send."""
    part = Posterior(*(each[chosen] for each in (found.mean, found.covariance, found.squared_error)))
    users = problem.users_alone(chosen)
    precision, pull = item_sums(problem.design, users, part, tau[chosen], problem.beliefs.rank)
    return {
        "item_precision": problem.among_shared(users.rows, precision),
        "item_pull": problem.among_shared(users.rows, pull),
    }


def server(problem, sums: dict[str, torch.Tensor]) -> Beliefs:
    found = update_items(problem.beliefs, problem.design, problem.features, sums, Strengths(), False)
    return replace(problem.beliefs, item_mean=found[0], item_covariance=found[1])


@pytest.mark.parametrize(("rank", "threshold"), [(2, 0), (1, 4), (4, 5)])
def test_the_items_are_those_of_all_other_users(make_problem, rank, threshold):
    problem = make_problem(seed=6, users=7, items=8, rank=rank, threshold=threshold)
    beliefs, tau = problem.beliefs, torch.tensor(TAU, dtype=torch.float64)
    known = problem.evidence()
    found = posterior(known, beliefs.user_spread, known.covariates @ beliefs.covariate_weights, tau)
    learned = server(problem, sums_of_users(problem, found, tau, list(range(7))))
    rows, design = problem.users.rows, problem.design
    mean, packed = without_own(learned, rows, design, found, tau)
    user, item, value = own_ratings(rows)
    assert len(mean) == len(packed) == len(value) == len(problem.value)
    shared = design.shared[item] > 0
    assert shared.any()
    assert shared.all() == (threshold == 0)
    for number in range(7):
        others = server(problem, sums_of_users(problem, found, tau, [each for each in range(7) if each != number]))
        mine = user == number
        items = item[mine]
        torch.testing.assert_close(mean[mine], others.item_mean[items], rtol=0, atol=1e-10)
        torch.testing.assert_close(packed[mine], others.item_covariance[items], rtol=0, atol=1e-10)
        moved = (mean[mine] - learned.item_mean[items]).abs().max(1).values > 1e-6
        assert torch.equal(moved, shared[mine]), "only what was sent is taken out, and all of it"


def test_own_ratings_are_each_user_s_rows(make_problem):
    problem = make_problem(seed=7, users=5, items=9)
    user, item, value = own_ratings(problem.users.rows)
    found = list(zip(user.tolist(), item.tolist(), value.tolist(), strict=True))
    assert [each[0] for each in found] == sorted(problem.user.tolist())
    assert sorted(found) == sorted(zip(problem.user.tolist(), problem.item.tolist(), problem.value, strict=True))


def test_many_ratings_are_taken_in_blocks_that_change_nothing(make_problem, monkeypatch):
    problem = make_problem(seed=6, users=7, items=8)
    beliefs, tau, design = problem.beliefs, torch.tensor(TAU, dtype=torch.float64), problem.design
    known = problem.evidence()
    found = posterior(known, beliefs.user_spread, known.covariates @ beliefs.covariate_weights, tau)
    learned = server(problem, sums_of_users(problem, found, tau, list(range(7))))
    whole = without_own(learned, problem.users.rows, design, found, tau)
    monkeypatch.setattr("hierfed.methods.hierarchical.cavity.BLOCK", 5)
    parts = without_own(learned, problem.users.rows, design, found, tau)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
