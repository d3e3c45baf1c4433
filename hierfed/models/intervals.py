"""Central normal intervals of predictions, and the groups of users whose widths are fitted apart."""

from __future__ import annotations

import torch
from scipy.special import ndtri
from torch import Tensor

INTERVAL_LEVEL = 0.9
"""The share of ratings that an interval should contain."""


OWN_RATINGS = (10, 20, 40, 80, 160)
"""The groups of users by the number of own ratings that a model has learned from: below 10, from 10 on, and so on."""


def group_of(own: Tensor) -> Tensor:
    """The group of each number of own ratings; see OWN_RATINGS."""
    return torch.bucketize(own, torch.tensor(OWN_RATINGS, device=own.device), right=True)


def group_names() -> list[str]:
    """The groups in words."""
    ends = [f"{low} to {high - 1}" for low, high in zip((0, *OWN_RATINGS), OWN_RATINGS, strict=False)]
    return [*ends, f"{OWN_RATINGS[-1]} or more"]


def quantile() -> float:
    """Half the width of the interval of INTERVAL_LEVEL, in standard deviations."""
    return float(ndtri((1 + INTERVAL_LEVEL) / 2))


def half_width(deviation: Tensor) -> Tensor:
    """Half the width of the interval of INTERVAL_LEVEL, from the standard deviation."""
    return quantile() * deviation
