"""Users' posteriors and sums against direct linear algebra, and against expectations taken point by point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from hierfed.methods.hierarchical.users import (
    Posterior,
    content_products,
    evidence,
    factor_products,
    item_moments,
    item_sums,
    node_means,
    posterior,
    precision_of,
)
from hierfed.models.symmetric import unpack

SHAPES = [
    {"rank": 2},
    {"rank": 1, "users": 1, "items": 3},
    {"rank": 3, "items": 1, "users": 4},
    {"rank": 2, "slopes": 0},
    {"rank": 5, "users": 3, "items": 4, "density": 0.1},
    {"rank": 2, "threshold": 4},
    {"rank": 2, "threshold": 100},
]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def random_posterior(problem, seed: int = 5) -> Posterior:
    rng = np.random.default_rng(seed)
    users, size = len(problem.users.rows.counts), problem.weights
    roots = rng.normal(0, 0.4, (users, size, size + 1))
    return Posterior(
        torch.from_numpy(rng.normal(0, 0.7, (users, size))),
        torch.from_numpy(roots @ roots.transpose(0, 2, 1)),
        torch.from_numpy(rng.uniform(1, 2, users)),
    )


def close(found: Tensor, expected: object, tolerance: float = 1e-11) -> None:
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=tolerance, atol=tolerance)


@EVERY_SHAPE
def test_evidence_is_the_expectation_over_the_items_posteriors(make_problem, sigma_points, shape):
    problem = make_problem(**shape)
    known = problem.evidence()
    for user in range(len(problem.users.rows.counts)):
        products = np.zeros((problem.weights, problem.weights))
        targets, squares = np.zeros(problem.weights), 0.0
        for item, stars in problem.rows_of(user):
            points = sigma_points(*problem.item_posterior(item))
            vectors = np.array([problem.vector(item, point[1:]) for point in points])
            left = stars - points[:, 0]
            products += np.einsum("na,nb->ab", vectors, vectors) / len(points)
            targets += left @ vectors / len(points)
            squares += np.mean(left**2)
        close(known.products[user], products)
        close(known.targets[user], targets)
        close(known.squares[user], squares)


@EVERY_SHAPE
def test_the_squared_error_is_the_expectation_over_items_and_users(make_problem, sigma_points, shape):
    """What the code gets from a trace identity, as the mean over all pairs of points."""
    problem = make_problem(**shape)
    beliefs = problem.beliefs
    known = problem.evidence(beliefs)
    prior = known.covariates @ beliefs.covariate_weights
    precision = torch.linspace(0.6, 2.0, len(prior)).double()
    found = posterior(known, beliefs.user_spread, prior, precision)
    for user in range(len(prior)):
        weights = sigma_points(found.mean[user].numpy(), found.covariance[user].numpy())
        expected = 0.0
        for item, stars in problem.rows_of(user):
            points = sigma_points(*problem.item_posterior(item))
            vectors = np.array([problem.vector(item, point[1:]) for point in points])
            expected += np.mean((stars - points[:, :1] - vectors @ weights.T) ** 2)
        close(found.squared_error[user], expected, 1e-9)


@EVERY_SHAPE
def test_with_known_items_the_posterior_is_bayesian_linear_regression(make_problem, shape):
    """By the rules of conditioning in the joint distribution of weights and ratings, not by normal equations."""
    problem = make_problem(**shape)
    beliefs = replace(problem.beliefs, item_covariance=torch.zeros_like(problem.beliefs.item_covariance))
    known = problem.evidence(beliefs)
    rng = np.random.default_rng(1)
    prior = torch.from_numpy(rng.normal(0, 0.5, (len(known.squares), problem.weights)))
    precision = torch.from_numpy(rng.uniform(0.5, 3, len(prior)))
    found = posterior(known, beliefs.user_spread, prior, precision)
    spread = beliefs.user_spread.numpy()
    for user, centre in enumerate(prior.numpy()):
        rows = problem.rows_of(user)
        vectors = np.array([problem.vector(item, beliefs.item_mean[item, 1:].numpy()) for item, _ in rows])
        residuals = np.array([stars - float(beliefs.item_mean[item, 0]) for item, stars in rows])
        of_ratings = vectors @ spread @ vectors.T + np.eye(len(rows)) / float(precision[user])
        gain = spread @ vectors.T @ np.linalg.inv(of_ratings)
        mean = centre + gain @ (residuals - vectors @ centre)
        covariance = spread - gain @ vectors @ spread
        close(found.mean[user], mean, 1e-9)
        close(found.covariance[user], covariance, 1e-9)
        left = residuals - vectors @ mean
        close(found.squared_error[user], left @ left + np.trace(vectors @ covariance @ vectors.T), 1e-9)


def test_covariates_are_shrunken_means_over_a_user_s_own_items(make_problem):
    problem = make_problem(threshold=3)
    known = problem.evidence()
    factors = problem.beliefs.item_mean[:, 1:].numpy()
    raters = problem.design.raters.numpy()
    average = sum(weight * each for weight, each in zip(raters, factors, strict=True)) / raters.sum()
    for user in range(len(known.covariates)):
        rated = [item for item, _ in problem.rows_of(user)]
        expected = [1.0]
        for column in problem.design.covariates.numpy().T:
            expected.append(sum(column[item] for item in rated) / (len(rated) + 5))
        for centre, column in zip(average, factors.T, strict=True):
            expected.append(3 * sum(column[item] - centre for item in rated) / (len(rated) + 5))
        close(known.covariates[user], expected)


@EVERY_SHAPE
def test_expected_products_of_a_user_s_weights(make_problem, sigma_points, shape):
    problem = make_problem(**shape)
    found, rank = random_posterior(problem), problem.beliefs.rank
    products, mixed = factor_products(found, rank), content_products(found, rank)
    for user in range(len(found.mean)):
        points = sigma_points(found.mean[user].numpy(), found.covariance[user].numpy())
        factors = np.column_stack([np.ones(len(points)), points[:, 1 : 1 + rank]])
        others = np.column_stack([points[:, 0], points[:, 1 + rank :]])
        close(products[user], factors.T @ factors / len(points))
        close(mixed[user], others.T @ factors / len(points))


@EVERY_SHAPE
def test_the_sums_of_an_item_are_expectations_over_its_raters(make_problem, sigma_points, shape):
    """And there are none of items that are not shared."""
    problem = make_problem(**shape)
    found, rank = random_posterior(problem), problem.beliefs.rank
    tau = torch.linspace(0.5, 2.0, len(found.mean)).double()
    rows = problem.users.rows
    precision, pull = item_sums(problem.design, problem.users, found, tau, rank)
    shared = problem.design.shared.numpy() > 0
    expected_precision = np.zeros((len(shared), 1 + rank, 1 + rank))
    expected_pull = np.zeros((len(shared), 1 + rank))
    for user in range(len(found.mean)):
        points = sigma_points(found.mean[user].numpy(), found.covariance[user].numpy())
        factors = np.column_stack([np.ones(len(points)), points[:, 1 : 1 + rank]])
        for item, stars in problem.rows_of(user):
            left = stars - points[:, 0] - points[:, 1 + rank :] @ problem.design.slopes[item].numpy()
            expected_precision[item] += float(tau[user]) * factors.T @ factors / len(points)
            expected_pull[item] += float(tau[user]) * left @ factors / len(points)
    close(unpack(problem.among_shared(rows, precision), 1 + rank), expected_precision[shared])
    close(problem.among_shared(rows, pull), expected_pull[shared])


def test_the_precision_is_the_mean_of_its_posterior_density():
    shape, common, count, error = 6.0, 1.3, 9, 4.2

    def density(tau: float) -> float:
        prior = tau ** (shape - 1) * np.exp(-tau * shape / common)
        return float(prior * tau ** (count / 2) * np.exp(-tau * error / 2))

    expected = quad(lambda tau: tau * density(tau), 0, 30)[0] / quad(density, 0, 30)[0]
    counts, errors, prior = (torch.tensor(each, dtype=torch.float64) for each in ([count, 0], [error, 0], [common]))
    found = precision_of(shape, prior, counts, errors)
    assert found[0].item() == pytest.approx(expected, rel=1e-6)
    assert found[1].item() == pytest.approx(common, rel=1e-12), "no ratings leave the prior's mean"


def test_a_node_s_mean_is_what_its_users_mean_says_of_it(make_problem):
    """The node's mean m ~ N(0, v) is seen through the mean of n users, whose variance is S / n."""
    beliefs = make_problem().beliefs
    deviation = torch.linspace(-1, 1, len(beliefs.node_variance)).double()
    deviations = torch.stack([deviation, torch.zeros_like(deviation), deviation.flip(0)])
    users = torch.tensor([4.0, 7, 1], dtype=torch.float64)
    found = node_means(beliefs, deviations, users)
    assert found.shape == deviations.shape
    for node, count in enumerate(users.tolist()):
        for place, seen in enumerate(deviations[node].tolist()):
            between = float(beliefs.node_variance[place])
            within = float(beliefs.user_spread[place, place]) / count
            joint = np.array([[between, between], [between, between + within]])
            assert found[node, place].item() == pytest.approx(joint[0, 1] / joint[1, 1] * seen, rel=1e-12)
    assert torch.equal(found[1], torch.zeros_like(deviation)), "a node that nothing is known of"
    alike = replace(beliefs, node_variance=torch.zeros_like(deviation))
    assert torch.equal(node_means(alike, deviations, users), torch.zeros_like(deviations))


def test_users_do_not_depend_on_each_other(make_problem):
    """A user's posterior is the same wherever the others are."""
    whole = make_problem(users=5, items=6, density=0.6)
    beliefs = whole.beliefs
    precision = torch.linspace(0.6, 2.0, 5).double()
    known = whole.evidence()
    found = posterior(known, beliefs.user_spread, known.covariates @ beliefs.covariate_weights, precision)
    for user in range(5):
        alone = evidence(item_moments(beliefs, whole.design), whole.users_alone([user]))
        prior = alone.covariates @ beliefs.covariate_weights
        single = posterior(alone, beliefs.user_spread, prior, precision[user : user + 1])
        for name in ("mean", "covariance", "squared_error"):
            torch.testing.assert_close(getattr(single, name)[0], getattr(found, name)[user], rtol=0, atol=1e-11)
