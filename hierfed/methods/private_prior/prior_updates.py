"""The server's updates from noisy sums over users: the parameters of a public prior, its mean, its items' biases.

Each user's vector has at most a clip norm, and the noise has a known deviation. No other data enter.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.methods.local.personal import PriorScales

# Each parameter of the prior is tried at its value times this factor, and divided by it.
FACTOR = 2.0
# The step's share of the way to the best value of each parameter alone, since several parameters explain the same.
SHARE_OF_STEP = 0.7
# The prior of the mean's weights counts as so many observations of unit variance, in units of the users' own spread.
MEAN_STRENGTH = 10.0
# The prior variance of items' biases, in stars squared.
BIAS_VARIANCE = 0.025


def next_scales(scales: PriorScales, evidence: Tensor, deviation: float) -> PriorScales:
    """A step of each parameter towards more evidence, by a parabola through the tried values.

    A slope within the noise moves nothing. Noise counts as curvature, so steps shrink as it grows.

    evidence: gain of all users together with each parameter multiplied by FACTOR, and divided by it, [2 x parameters].
    deviation: of the noise in it.
    """
    up, down = evidence.view(-1, 2).unbind(1)
    slope = (up - down) / 2
    curvature = torch.clamp(-(up + down) / 2, min=max(SHARE_OF_STEP * deviation, 1e-9))
    trust = (1 - deviation**2 / 2 / (slope.square() + 1e-12)).clamp_min(0)
    steps = (SHARE_OF_STEP * slope / (2 * curvature)).clamp(-1, 1) * trust
    return PriorScales(*(value * FACTOR**step for value, step in zip(astuple(scales), steps.tolist(), strict=True)))


def mean_weights(targets: Tensor, products: Tensor, deviation: float) -> Tensor:
    """The weights that all users have in common, in units of the users' own spread: [t].

    They are the posterior mean under the prior N(0, 1 / MEAN_STRENGTH). The products are used as they are, except that
    negative eigenvalues, which come from noise, become 0.

    targets [t], products [t, t]: sums over users of W x' C^-1 y and of W x' C^-1 x W.
    deviation: of the noise in the targets.
    """
    one = torch.eye(len(targets), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(products)
    products = (vectors * values.clamp_min(0)) @ vectors.T
    noise = products @ products / MEAN_STRENGTH + products + (deviation**2 + 1e-6) * one
    weights: Tensor = products @ torch.linalg.solve(noise, targets) / MEAN_STRENGTH
    return weights


def item_biases(
    sums: Tensor, weights: Tensor, features: Tensor, deviation: float, weight_deviation: float
) -> tuple[Tensor, Tensor]:
    """Posterior means and variances of some items' biases, [items] each.

    sums, weights: sums over users of C^-1 y and of the diagonal of C^-1.
    features: public features of these items; noisy weights are shrunk to a regression on them.
    deviation, weight_deviation: of the noise in sums and in weights.
    """
    known = smoothed(weights, features, weight_deviation) if weight_deviation else weights.clamp_min(1e-9)
    total = known.square() * BIAS_VARIANCE + known + deviation**2
    mean = known * BIAS_VARIANCE * sums / total
    return mean, BIAS_VARIANCE - (known * BIAS_VARIANCE).square() / total


def popularity_features(content: Content, items: np.ndarray) -> Tensor:
    """Features of public votes and years that predict an item's number of ratings, [items, 8]; the first is 1."""
    votes, year, vote = content.votes[items], content.year[items], content.vote[items]
    late = np.maximum(year, 0)
    columns = np.column_stack([votes, year, late, votes * year, votes**2, votes * late, vote])
    return torch.from_numpy(np.column_stack([np.ones(len(items)), columns - columns.mean(0)]))


def smoothed(noisy: Tensor, features: Tensor, deviation: float) -> Tensor:
    """Positive numbers from noisy ones: a regression of their logarithms on features, plus shrunk residuals.

    Gauss-Newton steps have weights 1 / (noise + spread about the mean). The spread is estimated from residuals.
    """
    coefficients = torch.zeros(features.shape[1], dtype=torch.float64)
    coefficients[0] = noisy.mean().clamp_min(0.05).log()
    ridge = torch.ones_like(coefficients)
    ridge[0] = 1e-6
    for _ in range(40):
        mean = (features @ coefficients).clamp(-5, 7).exp()
        weight = 1 / (deviation**2 + mean.square() / 2 + mean)
        slope = features * mean[:, None]
        left = slope.T @ (slope * weight[:, None]) + 0.5 * torch.diag(ridge)
        right = slope.T @ (weight * (noisy - mean)) - 0.5 * ridge * coefficients
        coefficients = coefficients + 0.5 * torch.linalg.solve(left, right)
    mean = (features @ coefficients).clamp(-5, 7).exp()
    weight = (deviation**2 + mean.square()) ** -2
    beyond = (weight * mean.square() * ((noisy - mean).square() - deviation**2)).sum()
    spread = (beyond / (weight * mean**4).sum()).clamp(0.05, 1.5) * mean.square()
    return (mean + spread / (spread + deviation**2) * (noisy - mean)).clamp_min(0.02)
