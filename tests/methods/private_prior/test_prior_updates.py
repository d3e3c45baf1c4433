"""What the server makes of noisy sums: without noise what Bayes says, with too much of it nothing."""

from __future__ import annotations

from dataclasses import astuple, fields
from itertools import pairwise

import numpy as np
import pytest
import torch

from hierfed.methods.local.personal import PriorScales
from hierfed.methods.private_prior.prior_updates import (
    BIAS_VARIANCE,
    FACTOR,
    MEAN_STRENGTH,
    item_biases,
    mean_weights,
    next_scales,
    smoothed,
)

COUNT = len(fields(PriorScales))


def parabolas(best: np.ndarray, sharpness: float = 50.0) -> torch.Tensor:
    """Evidence that is greatest where each number is FACTOR ** best times its value."""

    def at(step: float) -> np.ndarray:
        return -sharpness * ((step - best) ** 2 - best**2)

    return torch.from_numpy(np.column_stack([at(1.0), at(-1.0)]).ravel())


def test_each_number_goes_a_share_of_the_way_to_its_best_value():
    best = np.linspace(-0.9, 0.9, COUNT)
    found = next_scales(PriorScales(), parabolas(best), 0.0)
    steps = np.log(np.array(astuple(found)) / np.array(astuple(PriorScales()))) / np.log(FACTOR)
    np.testing.assert_allclose(steps, 0.7 * best, atol=1e-9)


def test_no_number_goes_further_than_was_tried():
    found = next_scales(PriorScales(), parabolas(np.full(COUNT, 40.0)), 0.0)
    np.testing.assert_allclose(np.array(astuple(found)) / np.array(astuple(PriorScales())), FACTOR)


def test_a_slope_within_the_noise_moves_nothing():
    assert next_scales(PriorScales(), parabolas(np.full(COUNT, 0.01)), 1e3) == PriorScales()


def test_the_mean_is_the_posterior_of_all_ratings_where_there_is_no_noise():
    rng = np.random.default_rng(5)
    x, weights = rng.normal(size=(200, 4)), rng.normal(size=4)
    y = x @ weights + rng.normal(size=200)
    found = mean_weights(torch.from_numpy(x.T @ y), torch.from_numpy(x.T @ x), 0.0)
    expected = np.linalg.solve(x.T @ x + MEAN_STRENGTH * np.eye(4), x.T @ y)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_mean_with_noise_is_the_best_linear_estimate():
    """Against the joint Gaussian of weights and noisy targets, by blocks."""
    rng = np.random.default_rng(6)
    root = rng.normal(size=(9, 3))
    products, targets, deviation = root.T @ root, rng.normal(size=3), 2.5
    prior = np.eye(3) / MEAN_STRENGTH
    covariance = products @ prior @ products + products + (deviation**2 + 1e-6) * np.eye(3)
    expected = prior @ products @ np.linalg.inv(covariance) @ targets
    found = mean_weights(torch.from_numpy(targets), torch.from_numpy(products), deviation)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_directions_that_noise_made_negative_say_nothing():
    products = torch.diag(torch.tensor([4.0, -3.0], dtype=torch.float64))
    found = mean_weights(torch.ones(2, dtype=torch.float64), products, 1.0)
    assert found[0] > 0
    assert found[1] == 0


def test_biases_without_noise_are_conjugate_posteriors():
    """n ratings of variance 1 / w each: sum of C^-1 y is their sum over the variance."""
    weights = torch.tensor([0.0, 3.0, 80.0], dtype=torch.float64)
    sums = torch.tensor([0.0, 1.5, -8.0], dtype=torch.float64)
    mean, variance = item_biases(sums, weights, torch.ones(3, 1, dtype=torch.float64), 0.0, 0.0)
    precision = weights + 1 / BIAS_VARIANCE
    torch.testing.assert_close(mean, sums / precision)
    torch.testing.assert_close(variance, 1 / precision)


def test_biases_shrink_with_noise_and_their_doubt_grows():
    weights, sums = torch.full((50,), 40.0).double(), torch.full((50,), 20.0).double()
    features = torch.ones(50, 1, dtype=torch.float64)
    found = [item_biases(sums, weights, features, noise, noise) for noise in (0.0, 5.0, 50.0)]
    for (mean, doubt), (noisier, more) in pairwise(found):
        assert torch.all(noisier < mean)
        assert torch.all(more > doubt)
        assert torch.all(more < BIAS_VARIANCE)


@pytest.mark.parametrize("deviation", [1.0, 10.0])
def test_noisy_weights_are_nearer_to_the_truth_than_they_came(deviation):
    generator = torch.Generator().manual_seed(3)
    votes = torch.randn(800, generator=generator, dtype=torch.float64)
    features = torch.stack([torch.ones_like(votes), votes], 1)
    truth = (1.5 + 0.8 * votes + 0.3 * torch.randn(800, generator=generator, dtype=torch.float64)).exp()
    noisy = truth + deviation * torch.randn(800, generator=generator, dtype=torch.float64)
    found = smoothed(noisy, features, deviation)
    assert torch.all(found > 0)
    assert (found - truth).square().mean() < 0.8 * (noisy - truth).square().mean()
