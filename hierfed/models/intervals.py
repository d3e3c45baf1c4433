"""Central normal intervals of predictions."""

from __future__ import annotations

from scipy.special import ndtri
from torch import Tensor

INTERVAL_LEVEL = 0.9
"""The share of ratings that an interval should contain."""


def quantile() -> float:
    """Half the width of the interval of INTERVAL_LEVEL, in standard deviations."""
    return float(ndtri((1 + INTERVAL_LEVEL) / 2))


def half_width(deviation: Tensor) -> Tensor:
    """Half the width of the interval of INTERVAL_LEVEL, from the standard deviation."""
    return quantile() * deviation
