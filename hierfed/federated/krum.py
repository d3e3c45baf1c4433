"""Krum and multi-Krum: the nodes whose values lie nearest to those of most others.

    score_k = sum of |x_k - x_l|^2 over the n - f - 2 nearest l;  Krum: the node of the least score;
    multi-Krum: the mean of the n - f nodes of the least scores

Source: Blanchard et al., Machine Learning with Adversaries, NeurIPS 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def krum(values: Tensor, liars: int) -> Tensor:
    """The values of one node; see Centre."""
    return values[_scores(values, liars).argmin()]


def multi_krum(values: Tensor, liars: int) -> Tensor:
    """The mean of the values of all but `liars` nodes; see Centre."""
    best = _scores(values, liars).argsort(stable=True)[: len(values) - liars].sort().values
    return values[best].mean(0)


def _scores(values: Tensor, liars: int) -> Tensor:
    """The score of each node, [nodes]; raises ValueError for fewer than 2 f + 3 nodes."""
    nodes = len(values)
    if nodes < 2 * liars + 3:
        raise ValueError(
            f"needs {2 * liars + 3} nodes to resist {liars}, and there are {nodes}: lower federation.rule_share, or "
            "take more nodes"
        )
    squares = (values[:, None, :] - values[None, :, :]).square().sum(2) if nodes <= 16 else _products(values)
    # The nearest is the node itself, at distance 0.
    return squares.sort(dim=1).values[:, : nodes - liars - 1].sum(1)


def _products(values: Tensor) -> Tensor:
    """Squared distances from inner products, which take less memory."""
    centred = values - values.mean(0)
    norms = centred.square().sum(1)
    squares = (norms[:, None] + norms[None, :] - 2 * centred @ centred.T).clamp_min(0)
    return squares.fill_diagonal_(0)
