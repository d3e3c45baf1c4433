"""What kriging must give one user, by conditioning in joint multivariate t distributions, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_t

from hierfed.models.noise_levels import LEVELS


@dataclass(frozen=True)
class Dense:
    """Of one user: each level's weight; the matrix that takes the residuals to weights on the covariances with a query,
    averaged over levels; mean and variance of each query, and the factor on the noise, of the likeliest level; the
    logarithm of the ratings' density, averaged over levels; and the likeliest one's inverse covariance of the ratings,
    scaled."""

    shares: np.ndarray
    matrix: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    loudness: float
    evidence: float
    inverse: np.ndarray


def dense_kriging(
    known: np.ndarray, noise: np.ndarray, cross: np.ndarray, itself: np.ndarray, residuals: np.ndarray
) -> Dense:
    """known [n, n]: the covariance of the own ratings without noise [n]; cross [m, n], itself [m]: of the queries.

    A scale with an inverse gamma distribution of shape and rate 6 makes a normal distribution a t distribution with 12
    degrees of freedom.
    """
    logs, inverses, variances, scales = [], [], [], []
    for level in LEVELS:
        covariance = known / level + np.diag(noise)
        density = multivariate_t(shape=covariance, df=12, allow_singular=True) if len(residuals) else None
        logs.append((density.logpdf(residuals) if density else 0.0) - np.log(level) ** 2 / 2)
        inverses.append(np.linalg.inv(covariance) / level)
        scales.append((6 + level * residuals @ inverses[-1] @ residuals / 2) / (6 + len(residuals) / 2))
        gained = np.einsum("mn,nk,mk->m", cross, inverses[-1], cross)
        variances.append(scales[-1] / level * (itself - gained))
    shares = np.exp(np.array(logs) - max(logs))
    shares /= shares.sum()
    matrix = np.einsum("l,lmn->mn", shares, inverses)
    likeliest = int(np.argmax(shares))
    return Dense(
        shares,
        matrix,
        cross @ matrix @ residuals,
        variances[likeliest],
        scales[likeliest],
        float(logsumexp(logs)),
        LEVELS[likeliest] * inverses[likeliest] / scales[likeliest],
    )
