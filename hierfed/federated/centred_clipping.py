"""Centred clipping: each node moves the centre by no more than a radius.

    v = v + mean_k (x_k - v) min(1, radius / |x_k - v|),   again and again

It begins at the median, and the radius is the median distance to it, so that there is nothing to tune.

Source: Karimireddy et al., Learning from History for Byzantine Robust Optimization, ICML 2021, arXiv:2012.10333.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.federated.median import median

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 5


def centred_clipping(values: Tensor, liars: int) -> Tensor:
    """The clipped centre; see Centre. It needs no number of `liars`."""
    centre = median(values, liars)
    radius = (values - centre).norm(dim=1).median()
    for _ in range(STEPS):
        apart = values - centre
        factor = (radius / apart.norm(dim=1).clamp_min(1e-300)).clamp_max(1)
        centre = centre + (factor[:, None] * apart).mean(0)
    return centre
