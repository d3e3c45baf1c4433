"""The trimmed mean: of each value, the largest and the smallest of the nodes' are left out.

Source: Yin et al., Byzantine-Robust Distributed Learning, ICML 2018, arXiv:1803.01498.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def trimmed_mean(values: Tensor, liars: int) -> Tensor:
    """The mean of the middle, value by value; see Centre. `liars` are left out at each end."""
    if not liars or 2 * liars >= len(values):
        raise ValueError(
            f"leaves {liars} of {len(values)} nodes out at each end: choose a federation.rule_share that leaves out at "
            "least one and fewer than half"
        )
    return values.sort(dim=0).values[liars : len(values) - liars].mean(0)
