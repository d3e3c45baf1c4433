"""Mean-field sweeps against the exact joint posterior, where the model is linear and Gaussian.

There the means of variational Bayes are those of the exact posterior once the sweeps stand still.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths
from hierfed.methods.hierarchical.items import update_items
from hierfed.methods.hierarchical.users import item_sums, posterior
from hierfed.models.symmetric import unpack

SWEEPS = 3000


def sweep_until_still(problem, beliefs: Beliefs, prior: torch.Tensor, tau: torch.Tensor):
    """The users' and the items' posteriors, in turn, with priors and noise held; gives the last of each."""
    rank = beliefs.rank
    for _ in range(SWEEPS):
        known = problem.evidence(beliefs)
        found = posterior(known, beliefs.user_spread, prior, tau)
        precision, pull = item_sums(problem.design, problem.users, found, tau, rank)
        rows = problem.users.rows
        sums = {
            "item_precision": problem.among_shared(rows, precision),
            "item_pull": problem.among_shared(rows, pull),
        }
        mean, packed, _, _ = update_items(beliefs, problem.design, problem.features, sums, Strengths(), False)
        moved = float((mean - beliefs.item_mean).abs().max())
        beliefs = replace(beliefs, item_mean=mean, item_covariance=packed)
        if moved < 1e-14:
            break
    assert moved < 1e-12, "the sweeps stand still"
    return found, beliefs


def joint_means(problem, beliefs: Beliefs, prior: np.ndarray, tau: np.ndarray, factors: np.ndarray):
    """Means of all users' weights and all items' biases, from one linear system; factors [items, rank] are known."""
    users, weights, items = len(prior), problem.weights, len(factors)
    size = users * weights + items
    left, right = np.zeros((size, size)), np.zeros(size)
    inverse = np.linalg.inv(beliefs.user_spread.numpy())
    for user in range(users):
        at = slice(user * weights, (user + 1) * weights)
        left[at, at] += inverse
        right[at] += inverse @ prior[user]
    centres = (problem.features @ beliefs.item_weights).numpy()[:, 0]
    variance = float(beliefs.item_spread[0, 0])
    for item in range(items):
        left[users * weights + item, users * weights + item] += 1 / variance
        right[users * weights + item] += centres[item] / variance
    for user, item, stars in zip(problem.user, problem.item, problem.value, strict=True):
        row = np.zeros(size)
        row[user * weights : (user + 1) * weights] = problem.vector(item, factors[item])
        row[users * weights + item] = 1
        left += tau[user] * np.outer(row, row)
        right += tau[user] * stars * row
    solved = np.linalg.solve(left, right)
    covariance = np.linalg.inv(left)
    return solved[: users * weights].reshape(users, weights), solved[users * weights :], np.diag(covariance)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_means_are_those_of_the_exact_joint_posterior(make_problem, rank, seed):
    """Items' factors are as good as known, by a prior of next to no variance; biases and all of z are unknown."""
    problem = make_problem(seed=seed, users=4, items=5, rank=rank, density=0.4)
    spread = torch.diag(torch.tensor([0.3] + [1e-13] * rank).double())
    beliefs = replace(problem.beliefs, item_spread=spread)
    rng = np.random.default_rng(seed)
    prior, tau = rng.normal(0, 0.5, (4, problem.weights)), rng.uniform(0.5, 2, 4)
    found, last = sweep_until_still(problem, beliefs, torch.from_numpy(prior), torch.from_numpy(tau))
    factors = (problem.features @ beliefs.item_weights).numpy()[:, 1:]
    users, items, variances = joint_means(problem, beliefs, prior, tau, factors)
    np.testing.assert_allclose(found.mean.numpy(), users, rtol=0, atol=1e-8)
    np.testing.assert_allclose(last.item_mean[:, 0].numpy(), items, rtol=0, atol=1e-8)
    np.testing.assert_allclose(last.item_mean[:, 1:].numpy(), factors, rtol=0, atol=1e-8)
    # Mean-field variances are too small, never too large.
    biases = unpack(last.item_covariance, problem.size)[:, 0, 0].numpy()
    assert (biases <= variances[-5:] * (1 + 1e-9)).all()
    of_users = torch.diagonal(found.covariance, dim1=1, dim2=2).flatten().numpy()
    assert (of_users <= variances[:-5] * (1 + 1e-9)).all()


def test_where_nothing_is_shared_the_users_posteriors_are_exact(make_problem):
    """Items under the threshold send nothing: one step of each user is the marginal of the ratings' joint normal."""
    problem = make_problem(seed=2, users=3, items=4, rank=0, density=0.5, threshold=100)
    beliefs = replace(problem.beliefs, item_spread=torch.tensor([[1e-13]]).double())
    prior, tau = torch.zeros(3, problem.weights).double(), torch.ones(3).double()
    found, last = sweep_until_still(problem, beliefs, prior, tau)
    centres = (problem.features @ beliefs.item_weights)[:, 0]
    torch.testing.assert_close(last.item_mean[:, 0], centres, rtol=0, atol=1e-12)
    users, _, _ = joint_means(problem, beliefs, prior.numpy(), tau.numpy(), np.zeros((4, 0)))
    np.testing.assert_allclose(found.mean.numpy(), users, rtol=0, atol=1e-8)
