"""Users' systems of equations at several levels of noise, averaged by their evidence; see hierfed.models.kriging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The candidate ratios of noise to signal, relative to the given ones. Their logarithms have a standard normal prior.
LEVELS = (3.0, 1.0, 1 / 3)
# A user with twice as many ratings is solved at those levels alone that have this share of the weight on as many.
PILOT, LEAST_SHARE = 512, 0.01
# The prior of a user's scale counts as twice as many ratings.
STRENGTH = 6.0


@dataclass(frozen=True)
class Solved:
    """The solution of each user's system.

    weights: K^-1 y averaged over the levels, [users, n].
    factor: Cholesky factor of K at the likeliest level, [users, n, n].
    signal, loudness: factors of that level's scale on the variances of the signal and of the noise, [users].
    evidence: log sum_l w_l, the log evidence of the ratings up to a function of their number, [users].
    """

    weights: Tensor
    factor: Tensor
    signal: Tensor
    loudness: Tensor
    evidence: Tensor


def solve(covariance: Tensor, noise: Tensor, residuals: Tensor, counts: Tensor) -> Solved:
    """K^-1 y at every level, weighted by evidence in which the user's scale is integrated out.

    The evidence is that of a multivariate t distribution. Of a user with many ratings, levels that have next to no
    weight on some of the ratings are left out, since all ratings only tell levels further apart.

    counts: each user's number of ratings, without padding, [users].
    """
    levels: tuple[float, ...] = LEVELS
    if len(noise) == 1 and noise.shape[1] >= 2 * PILOT:
        some = torch.arange(PILOT, device=noise.device) * noise.shape[1] // PILOT
        pilot = _at_levels(
            covariance[:, some[:, None], some], noise[:, some], residuals[:, some], counts * 0 + PILOT, LEVELS
        )
        shares = torch.softmax(torch.stack(pilot.evidence, 1), 1)[0].tolist()
        levels = tuple(level for level, share in zip(LEVELS, shares, strict=True) if share > LEAST_SHARE)
    return _averaged(_at_levels(covariance, noise, residuals, counts, levels), levels)


@dataclass(frozen=True)
class _AtLevels:
    """Each user's system at some levels: Cholesky factors, solutions, log evidence and scales, a tensor a level."""

    factors: list[Tensor]
    solutions: list[Tensor]
    evidence: list[Tensor]
    scales: list[Tensor]


def _at_levels(
    covariance: Tensor, noise: Tensor, residuals: Tensor, counts: Tensor, levels: Sequence[float]
) -> _AtLevels:
    # Half of an integer tensor would be in single precision, and evidence is always in double.
    inside, half, found = noise.isfinite(), counts.double() / 2, _AtLevels([], [], [], [])
    for level in levels:
        # LAPACK reads columns: the transpose of a symmetric matrix has them in place, and is factored without a copy.
        system = covariance.clone().mT
        torch.diagonal(system, dim1=1, dim2=2).add_(torch.where(inside, noise * level, 1.0))
        factor = torch.linalg.cholesky(system, out=system)
        solution = torch.cholesky_solve(residuals[:, :, None], factor)[:, :, 0]
        fit = fit_of(level, (residuals.double() * solution).sum(1))
        log_root = torch.diagonal(factor, dim1=1, dim2=2).double().log().sum(1)
        found.evidence.append(log_evidence(level, half, log_root, fit))
        found.factors.append(factor)
        found.solutions.append(solution)
        found.scales.append(fit / (STRENGTH + half))
    return found


def _averaged(found: _AtLevels, levels: Sequence[float]) -> Solved:
    """The solutions averaged over the levels, with the factor and the scale of the likeliest."""
    factors, kind = found.factors, found.factors[0].dtype
    weighed = torch.stack(found.evidence, 1)
    shares = torch.softmax(weighed, 1)
    likeliest, users = shares.argmax(1), torch.arange(len(shares), device=shares.device)
    for place, factor in enumerate(factors[1:], 1):
        here = torch.nonzero(likeliest == place)[:, 0]
        factors[0][here] = factor[here]
    loudness = torch.stack(found.scales, 1)[users, likeliest]
    return Solved(
        weights=torch.einsum("ul,lun->un", shares.to(kind), torch.stack(found.solutions)),
        factor=factors[0],
        signal=loudness / shares.new_tensor(levels)[likeliest],
        loudness=loudness,
        evidence=torch.logsumexp(weighed, 1),
    )


def fit_of(level: float, squares: Tensor) -> Tensor:
    """a + l y' K_l^-1 y / 2."""
    return STRENGTH + level * squares / 2


def log_evidence(level: float, half: Tensor | float, log_root: Tensor, fit: Tensor) -> Tensor:
    """log w_l, up to a function of the number of ratings.

    half: n / 2.
    log_root: log |K_l| / 2.
    fit: as fit_of gives it.
    """
    log_level = math.log(level)
    return half * log_level - log_root - (STRENGTH + half) * fit.log() - log_level**2 / 2
