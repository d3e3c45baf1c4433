"""Bounds for the next round from the last round's total, where nothing public gives them."""

from __future__ import annotations

import math

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.encoding import Bound

HEADROOM = 16.0


def bounds_from_total(
    total: Contribution, headroom: float = HEADROOM, least: float = 1.0, tolerance: float = math.inf
) -> dict[str, Bound]:
    """For each array, the next power of two from `headroom` times the largest entry of its total, at least `least`.

    Says nothing that the total, which the server has anyhow, does not say. It is a guess where entries have both signs,
    for these cancel; a node beyond it refuses, and by that tells that one of its values is.
    """
    return {name: Bound(_power_above(_largest(total, name) * headroom, least), tolerance) for name in total.arrays}


def _largest(total: Contribution, name: str) -> float:
    array = total.arrays[name]
    return float(array.abs().max()) if array.numel() else 0.0


def _power_above(value: float, least: float) -> float:
    return 2.0 ** math.ceil(math.log2(max(value, least)))
