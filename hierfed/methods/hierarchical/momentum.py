"""Momentum at the server: items and prior means move on in the direction of their last change, for fewer rounds.

    x_k = n_k + eta (n_k - n_k-1)

n_k is what round k's sums give, x_k what nodes are sent. Source: Nesterov, A method of solving a convex programming
problem with convergence rate O(1/k^2), 1983. Only means move on: spreads and precisions would lose definiteness.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

MOVED = ("item_mean", "covariate_weights", "item_weights", "rare_offset")


def moved_on(
    found: Mapping[str, Tensor], server: Mapping[str, Tensor], momentum: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The arrays that nodes are sent, and the server's own arrays for the next round.

    found: the model's arrays that the round's sums give. server: those that the last round gave; empty before round 2.
    momentum: eta, 0 for none, which keeps nothing.
    """
    if not momentum:
        return dict(found), {}
    # A checkpoint cannot hold one array under two names.
    kept = {f"last_{name}": found[name].clone() for name in MOVED if name in found}
    moved = {
        name: found[name] + momentum * (found[name] - server[f"last_{name}"])
        for name in MOVED
        if f"last_{name}" in server
    }
    return {**found, **moved}, kept
