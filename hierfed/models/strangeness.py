"""A test of whether ratings still are a user's, one that may be looked at after every rating.

    B_n = p(y_1 .. y_n | somebody unknown) / p(y_1 .. y_n | the user)

If the user's own predictive density holds, the chance that B_n ever reaches 1 / a is at most a (Ville, 1939: B_n is a
martingale of mean 1). So an alarm at 1 / a has a false alarm rate of a per user, however long one looks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FALSE_ALARMS = 0.01
"""The usual rate of false alarms per user."""


def log_densities(value: Tensor, vectors: Tensor, mean: Tensor, covariance: Tensor, noise: Tensor) -> Tensor:
    """The logarithms of the joint densities of the first 1, 2, ... values: float64 [values].

    value = vectors . z + e, z ~ N(mean, covariance), e ~ N(0, noise), noise [values].
    """
    joint = vectors @ covariance @ vectors.T + torch.diag(noise)
    root = torch.linalg.cholesky(joint)
    left = torch.linalg.solve_triangular(root, (value - vectors @ mean)[:, None], upper=False)[:, 0]
    each: Tensor = left.square() / 2 + root.diagonal().log() + math.log(2 * math.pi) / 2
    return -each.cumsum(0)


def first_alarm(log_factors: Tensor, false_alarms: float = FALSE_ALARMS) -> int | None:
    """The number of ratings after which the alarm is given first; None for none. log_factors: log B_n, [n]."""
    loud = (log_factors >= -math.log(false_alarms)).nonzero()
    return int(loud[0, 0]) + 1 if len(loud) else None
