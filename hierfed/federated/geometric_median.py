"""The geometric median: the point with the least sum of distances to the nodes' values.

    w_k = 1 / max(|x_k - v|, nu),   v = sum w_k x_k / sum w_k,   again and again

Source: RFA: Pillutla et al., Robust Aggregation for Federated Learning, IEEE TSP 2022, arXiv:1912.13445 (smoothed
Weiszfeld); it needs weighted means alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STEPS, SMOOTHING = 32, 1e-6


def geometric_median(values: Tensor, liars: int) -> Tensor:
    """The geometric median; see Centre. It needs no number of `liars`."""
    if len(values) < 3:
        raise ValueError(f"needs 3 nodes or more, and there are {len(values)}: take more, or the rule 'sum'")
    centre = values.median(0).values
    for _ in range(STEPS):
        distance = (values - centre).norm(dim=1)
        # In units of the nodes' own distances, so that the same smoothing fits changes of any size.
        weights = 1 / distance.clamp_min(SMOOTHING * float(distance.median()) + 1e-300)
        centre = (weights / weights.sum()) @ values
    return centre
