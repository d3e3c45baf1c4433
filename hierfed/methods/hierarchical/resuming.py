"""A training that goes on over other rows: what was learned of items and users, in the terms of new opening rounds.

The opening rounds of the new rows give counts, scale and embedding as a training anew would have them, so nothing of
rows that left stays in these. Only the beliefs are taken over; the rounds that follow forget where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hierfed.errors import HierfedError
from hierfed.methods.hierarchical.beliefs import Beliefs, Strengths
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.items import CONSTANT_CONTENT
from hierfed.models.symmetric import pack, unpack


def resumed_beliefs(
    opened: Mapping[str, Tensor], before: Mapping[str, Tensor], design: Design, features: Tensor, strengths: Strengths
) -> Beliefs:
    """The beliefs to go on from.

    opened: the arrays after the opening rounds of the new rows; items keep their numbers, new ones follow.
    before: the arrays of the training that goes on.
    design, features: of all items now. Items that were not summed before get their prior's mean.
    Raises HierfedError where the items' features are others than before, as with a genre that is new.
    """
    first, last = Beliefs.of(opened), _on_scale(Beliefs.of(before), before["scale"], opened["scale"])
    for name in ("item_weights", "item_spread", "covariate_weights", "user_spread"):
        if getattr(first, name).shape != getattr(last, name).shape:
            raise HierfedError("the items have other features than those the run knows: train it anew")
    known = len(last.item_mean)
    kept = (design.shared[:known] * (before["raters"] > 0)).nonzero()[:, 0]
    ridge = features.new_full((features.shape[1],), strengths.content)
    ridge[0] *= CONSTANT_CONTENT
    of_kept = features[kept]
    weights = torch.linalg.solve(of_kept.T @ of_kept + torch.diag(ridge), of_kept.T @ last.item_mean[kept])
    return Beliefs(
        item_mean=(features @ weights).index_copy_(0, kept, last.item_mean[kept]),
        item_covariance=pack(last.item_spread)
        .repeat(len(features), 1)
        .index_copy_(0, kept, last.item_covariance[kept]),
        item_weights=weights,
        item_spread=last.item_spread,
        covariate_weights=last.covariate_weights,
        user_spread=last.user_spread,
        precision=last.precision,
        node_variance=last.node_variance,
    )


def _on_scale(beliefs: Beliefs, before: Tensor, now: Tensor) -> Beliefs:
    """The same expectations, centre + unit x (b_i + z_u . x_i), with another centre and unit."""
    factor, shift = before[1] / now[1], (before[0] - now[0]) / now[1]
    size = 1 + beliefs.rank
    bias = torch.ones(size, dtype=torch.float64)
    bias[0] = factor
    mean = beliefs.item_mean * bias
    mean[:, 0] += shift
    both = torch.outer(bias, bias)
    return Beliefs(
        item_mean=mean,
        item_covariance=pack(unpack(beliefs.item_covariance, size) * both),
        item_weights=beliefs.item_weights,
        item_spread=beliefs.item_spread * both,
        covariate_weights=beliefs.covariate_weights * factor,
        user_spread=beliefs.user_spread * factor**2,
        precision=beliefs.precision / factor**2,
        node_variance=beliefs.node_variance * factor**2,
    )
