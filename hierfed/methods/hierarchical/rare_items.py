"""Items under the threshold, pooled: how far off their prior from content is, in one sum over all of them together.

The prior of items is learned from those with enough raters; items that few have rated may be worse, or better, than it
says. With b_i and q_i of the prior, every rating of such an item is a measurement of one offset o:

    y - b_i - z_u . x_i ~ N(o, 1 / tau_u + S_b),   o ~ N(0, v)

Nodes send the sums of precisions and of pulls over all these ratings. They do so only once the sum before has told that
the users who rated any of these items are as many as the threshold, so that it is never the sum of fewer users.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import ITEM_BIAS_VARIANCE
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.users import Evidence, Posterior

OFFSET, RATERS = "rare_offset", "rare_raters"
PRECISION, PULL = "rare_precision", "rare_pull"


def no_offset(design: Design) -> dict[str, Tensor]:
    """The arrays of a model that has no sum of such items yet: their offset [1], and their raters' number [1].

    None where there are no such items.
    """
    if design.shared.all():
        return {}
    return {OFFSET: design.raters.new_zeros(1), RATERS: design.raters.new_zeros(1)}


def rare_sums(
    known: Evidence, found: Posterior, precision: Tensor, bias_variance: Tensor, told: bool
) -> dict[str, Tensor]:
    """The number of users who rated such items, and sums of precisions and of pulls from the present means, [1] each.

    known: of these users. found, precision: their posteriors and precisions tau_u.
    bias_variance: S_b, the variance of items' biases around their prior means.
    told: False leaves precisions and pulls at 0, since too few users are known to have rated such items.
    """
    assert known.rare_vectors is not None and known.rare_residuals is not None
    counts = known.rare_vectors[:, 0]
    weight = told / (1 / precision + bias_variance)
    left = known.rare_residuals - (known.rare_vectors * found.mean).sum(1)
    return {
        RATERS: (counts > 0).sum(0, keepdim=True).to(counts.dtype),
        PRECISION: (weight * counts).sum(0, keepdim=True),
        PULL: (weight * left).sum(0, keepdim=True),
    }


def next_offset(
    arrays: Mapping[str, Tensor], sums: Mapping[str, Tensor], weight: float = 1.0, step: float = 1.0
) -> dict[str, Tensor]:
    """The next offset and number of raters.

    arrays: of the model that the sums were made with; those of earlier versions have no offset.
    weight, step: as in items.update_items.
    """
    if OFFSET not in arrays or PULL not in sums:
        return {}
    before, precision = arrays[OFFSET], weight * sums[PRECISION]
    offset = (before * precision + weight * sums[PULL]) / (precision + 1 / ITEM_BIAS_VARIANCE)
    return {OFFSET: torch.lerp(before, offset, step), RATERS: sums[RATERS]}


def moved_by(item_mean: Tensor, design: Design, offset: Tensor) -> Tensor:
    """The items' means, those under the threshold moved by the offset."""
    moved = item_mean.clone()
    moved[:, 0] += (1 - design.shared) * offset
    return moved


def resumed_offset(arrays: Mapping[str, Tensor], before: Mapping[str, Tensor], design: Design) -> dict[str, Tensor]:
    """The arrays of a training that goes on, with the offset of the one before, if both have one.

    arrays: of the model that goes on, on its own scale. before: of the training that goes on.
    """
    found = dict(arrays)
    if OFFSET in arrays and OFFSET in before:
        found[OFFSET] = before[OFFSET] * before["scale"][1] / arrays["scale"][1]
        found["item_mean"] = moved_by(found["item_mean"], design, found[OFFSET])
    return found
