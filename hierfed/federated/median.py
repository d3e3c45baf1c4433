"""The median of the nodes' values, one by one.

Source: Yin et al., Byzantine-Robust Distributed Learning, ICML 2018, arXiv:1803.01498.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def median(values: Tensor, liars: int) -> Tensor:
    """The middle value, or the mean of the two in the middle; see Centre. It needs no number of `liars`."""
    if len(values) < 3:
        raise ValueError(f"needs 3 nodes or more, and there are {len(values)}: take more, or the rule 'sum'")
    ordered, half = values.sort(dim=0).values, len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
