"""Items under the threshold, pooled: how far off their prior from content is, in one sum over all of them together.

The prior of items is learned from those with enough raters; items that few have rated may be worse, or better, than it
says. With b_i and q_i of the prior, every rating of such an item is a measurement of one offset o:

    y - b_i - z_u . x_i ~ N(o, 1 / tau_u + S_b),   o ~ N(0, v)

A node sends the sums of precisions and of pulls over all these ratings, if at least as many of its own users as the
threshold have rated any of these items. So its part is never that of fewer users, whoever sees it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import ITEM_BIAS_VARIANCE
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.users import Evidence, Posterior

OFFSET, PRECISION, PULL = "rare_offset", "rare_precision", "rare_pull"


def no_offset(design: Design) -> dict[str, Tensor]:
    """The array of a model that has no sum of such items yet: their offset, [1]. None where there are no such items."""
    return {} if design.shared.all() else {OFFSET: design.raters.new_zeros(1)}


def told_by(cohort: Cohort, design: Design, threshold: int) -> Tensor:
    """1 for users whose node sends these sums, else 0: float64 [users]."""
    rare = np.add.reduceat((design.shared == 0).cpu().numpy()[cohort.item], cohort.rows[:-1], dtype=np.int64) > 0
    of_nodes = np.add.reduceat(rare, cohort.nodes[:-1], dtype=np.int64) >= threshold
    return torch.from_numpy(of_nodes.astype(float))[cohort.node_of_users]


def rare_sums(
    known: Evidence, found: Posterior, precision: Tensor, bias_variance: Tensor, told: Tensor
) -> dict[str, Tensor]:
    """The sums of precisions and of pulls from the present means, [1] each.

    known: of these users. found, precision: their posteriors and precisions tau_u.
    bias_variance: S_b, the variance of items' biases around their prior means.
    told [users]: see told_by.
    """
    assert known.rare_vectors is not None and known.rare_residuals is not None
    weight = told / (1 / precision + bias_variance)
    left = known.rare_residuals - (known.rare_vectors * found.mean).sum(1)
    return {
        PRECISION: (weight * known.rare_vectors[:, 0]).sum(0, keepdim=True),
        PULL: (weight * left).sum(0, keepdim=True),
    }


def next_offset(
    arrays: Mapping[str, Tensor], sums: Mapping[str, Tensor], weight: float = 1.0, step: float = 1.0
) -> dict[str, Tensor]:
    """The next offset.

    arrays: of the model that the sums were made with; those of earlier versions have no offset.
    weight, step: as in items.update_items.
    """
    if OFFSET not in arrays or PULL not in sums:
        return {}
    before, precision = arrays[OFFSET], weight * sums[PRECISION]
    offset = (before * precision + weight * sums[PULL]) / (precision + 1 / ITEM_BIAS_VARIANCE)
    return {OFFSET: torch.lerp(before, offset, step)}


def brought(
    sums: Mapping[str, Tensor], made_with: Mapping[str, Tensor], now: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Sums with the pull from the present offset, in place of that from the offset that they were made with.

    made_with, now: arrays of the models.
    """
    found = dict(sums)
    if PULL in sums and OFFSET in made_with and OFFSET in now:
        found[PULL] = sums[PULL] + sums[PRECISION] * (made_with[OFFSET] - now[OFFSET])
    return found


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
