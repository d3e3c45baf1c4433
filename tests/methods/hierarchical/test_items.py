"""The server's half against item-by-item solutions, ridge regressions and moments by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Strengths
from hierfed.methods.hierarchical.items import update_items, update_users
from hierfed.models.symmetric import pack, unpack

STRENGTHS = Strengths(noise=5.0, covariates=7.0, content=3.0, moments=4.0)


def close(found: Tensor, expected: np.ndarray, tolerance: float = 1e-10) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


def random_item_sums(problem, seed: int = 2) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    items, size = int(problem.design.shared.sum()), problem.size
    roots = rng.normal(0, 1, (items, size, size + 1))
    return {
        "item_precision": pack(torch.from_numpy(roots @ roots.transpose(0, 2, 1))),
        "item_pull": torch.from_numpy(rng.normal(0, 2, (items, size))),
    }


@pytest.fixture(scope="module")
def problem(make_problem):
    """A problem where some items are shared and some are not."""
    found = make_problem(seed=3, users=6, items=9, threshold=4)
    assert 3 <= found.design.shared.sum() <= 7
    return found


def test_items_are_solved_one_by_one(problem):
    sums, beliefs = random_item_sums(problem), problem.beliefs
    mean, packed, weights, spread = update_items(beliefs, problem.design, problem.features, sums, STRENGTHS, False)
    assert torch.equal(weights, beliefs.item_weights)
    assert torch.equal(spread, beliefs.item_spread)
    prior = np.linalg.inv(beliefs.item_spread.numpy())
    shared = np.flatnonzero(problem.design.shared.numpy()).tolist()
    for item in range(len(mean)):
        centre = problem.features[item].numpy() @ beliefs.item_weights.numpy()
        left, right = prior.copy(), prior @ centre
        if item in shared:
            left += unpack(sums["item_precision"][shared.index(item)], problem.size).numpy()
            right += sums["item_pull"][shared.index(item)].numpy()
        close(mean[item], np.linalg.solve(left, right))
        close(unpack(packed[item], problem.size), np.linalg.inv(left))


def test_the_prior_s_weights_are_a_ridge_regression_and_its_spread_a_shrunken_moment(problem):
    sums, beliefs = random_item_sums(problem), problem.beliefs
    before, _, _, _ = update_items(beliefs, problem.design, problem.features, sums, STRENGTHS, False)
    mean, packed, weights, spread = update_items(beliefs, problem.design, problem.features, sums, STRENGTHS, True)
    shared = problem.design.shared.numpy() > 0
    assert torch.equal(mean[shared], before[shared])

    # The ridge as least squares with rows of its own for the penalties: 3, and 0.05 x 3 for the constant.
    features = problem.features.numpy()
    penalties = np.diag(np.sqrt([0.15] + [3.0] * (features.shape[1] - 1)))
    rows = np.concatenate([features[shared], penalties])
    targets = np.concatenate([mean.numpy()[shared], np.zeros((len(penalties), problem.size))])
    expected = np.linalg.lstsq(rows, targets)[0]
    close(weights, expected)

    moments = np.zeros((problem.size, problem.size))
    for item in np.flatnonzero(shared):
        deviation = mean[item].numpy() - features[item] @ expected
        moments += np.outer(deviation, deviation) + unpack(packed[item], problem.size).numpy()
    prior = np.diag([0.2] + [0.02] * (problem.size - 1))
    close(spread, (moments + 4 * prior) / (shared.sum() + 4))


def test_items_that_are_not_shared_are_what_the_prior_makes_of_their_content(problem):
    sums, beliefs = random_item_sums(problem), problem.beliefs
    for learn_prior in (False, True):
        found = update_items(beliefs, problem.design, problem.features, sums, STRENGTHS, learn_prior)
        mean, packed, weights, spread = found
        for item in np.flatnonzero(problem.design.shared.numpy() == 0):
            close(mean[item], problem.features[item].numpy() @ weights.numpy())
            close(unpack(packed[item], problem.size), spread.numpy())


def user_sums(problem, seed: int = 4) -> tuple[dict[str, Tensor], np.ndarray, np.ndarray]:
    """Sums over 40 users with these covariates and weights, all on one node."""
    rng = np.random.default_rng(seed)
    covariates = np.column_stack([np.ones(40), rng.normal(0, 1, (40, len(problem.beliefs.covariate_weights) - 1))])
    weights = rng.normal(0, 1, (40, problem.weights))
    moments = np.stack([np.ones(problem.weights)] * 6)
    found = {
        "covariate_products": covariates.T @ covariates,
        "covariate_targets": covariates.T @ weights,
        "user_moments": weights.T @ weights,
        "users": np.array([40.0]),
        "precision": np.array([50.0]),
        "squared_error": np.array([300.0]),
        "ratings": np.array([450.0]),
        "node_moments": moments,
    }
    return {name: torch.from_numpy(array) for name, array in found.items()}, covariates, weights


def test_the_users_prior_is_a_ridge_regression_and_a_shrunken_moment(problem):
    sums, covariates, weights = user_sums(problem)
    found = update_users(problem.beliefs, problem.design, sums, STRENGTHS, True)
    penalties = np.diag(np.sqrt([0.07] + [7.0] * (covariates.shape[1] - 1)))
    rows = np.concatenate([covariates, penalties])
    targets = np.concatenate([weights, np.zeros((len(penalties), problem.weights))])
    close(found[0], np.linalg.lstsq(rows, targets)[0])
    prior = np.diag([0.15] + [0.02] * problem.beliefs.rank + [0.02] * problem.design.slopes.shape[1])
    close(found[1], (weights.T @ weights + 4 * prior) / 44)


def test_the_precision_is_the_users_mean_or_before_they_have_any_that_of_the_errors(problem):
    sums, _, _ = user_sums(problem)
    assert update_users(problem.beliefs, problem.design, sums, STRENGTHS, True)[2].tolist() == [50 / 40]
    assert update_users(problem.beliefs, problem.design, sums, STRENGTHS, False)[2].tolist() == [450 / 300]


def node_sums(groups: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """The moments that these nodes send together, of their users' deviations [users, t], and the number of users."""
    total = 0.0
    for group in groups:
        mean, count = group.mean(0), np.full(group.shape[1], float(len(group)))
        total = total + np.stack([mean, mean**2, 1 / count, np.ones_like(mean), count * mean**2, count * mean])
    return torch.from_numpy(np.asarray(total)), torch.tensor([float(sum(map(len, groups)))]).double()


def between(problem, groups: list[np.ndarray]) -> np.ndarray:
    """The variance between nodes of users who deviate so, by the server's update of all that users' sums tell."""
    sums, _, _ = user_sums(problem)
    sums["node_moments"], users = node_sums(groups)
    deviations = np.concatenate(groups)
    within = np.concatenate([group - group.mean(0) for group in groups])
    sums |= {"users": users, "user_moments": torch.from_numpy(within.T @ within * len(deviations) / (len(within) - 1))}
    # Beliefs' moments are shrunk by so little that the spread is that of the users within their nodes.
    return update_users(problem.beliefs, problem.design, sums, replace(STRENGTHS, moments=1e-9), True)[3].numpy()


def simulated_nodes(problem, rng: np.random.Generator, nodes: int, sd: float) -> list[np.ndarray]:
    """Nodes of 20 to 60 users whose weights differ by 1 within, and in their first weight by sd between nodes."""
    groups = []
    for _ in range(nodes):
        group = rng.normal(0, 1, (int(rng.integers(20, 60)), problem.weights))
        group[:, 0] += rng.normal(0, sd)
        groups.append(group)
    return groups


def test_one_node_has_no_variance_between_nodes(problem):
    group = np.random.default_rng(0).normal(3, 1, (30, problem.weights))
    assert (between(problem, [group]) == 0).all()


def test_nodes_that_are_alike_get_no_means_of_their_own(problem):
    """At a chance of 1 in 1000 for all coordinates together, 40 draws should give none."""
    rng = np.random.default_rng(1)
    found = [between(problem, simulated_nodes(problem, rng, 8, 0.0)) for _ in range(40)]
    assert (np.array(found) == 0).all()


def test_nodes_that_differ_get_the_variance_that_made_them(problem):
    rng = np.random.default_rng(2)
    found = np.array([between(problem, simulated_nodes(problem, rng, 30, 0.8)) for _ in range(25)])
    assert (found >= 0).all()
    assert (found[:, 0] > 0).all()
    # The variance of 30 nodes is known to sqrt(2 / 29); 25 draws average it.
    assert found[:, 0].mean() == pytest.approx(0.64, abs=3 * 0.64 * np.sqrt(2 / 29 / 25))
    assert (found[:, 1:] == 0).mean() > 0.99


def test_the_variance_between_nodes_by_hand(problem):
    """Squares of means less what chance makes of them; and the chance by SciPy's chi2 distribution."""
    rng = np.random.default_rng(3)
    groups = simulated_nodes(problem, rng, 5, 1.0)
    found = between(problem, groups)
    means = np.array([group.mean(0) for group in groups])
    sizes = np.array([len(group) for group in groups])
    deviations = np.concatenate([group - group.mean(0) for group in groups])
    within = (deviations**2).sum(0) / (len(deviations) - 1)
    variance = means.var(0, ddof=1) - within * np.mean(1 / sizes)
    grand = (sizes @ means) / sizes.sum()
    statistic = (sizes @ (means - grand) ** 2) / within
    significant = chi2.sf(statistic, 4) < 0.001 / problem.weights
    assert significant[0]
    assert not significant.all()
    np.testing.assert_allclose(found, np.where(significant, np.maximum(variance, 0), 0), rtol=1e-6)
