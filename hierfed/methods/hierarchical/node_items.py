"""Items under the threshold at a node: posteriors from the ratings of the node's own users. Nothing of them is sent.

    Cov = (S_i^-1 + A)^-1,  g = Cov (S_i^-1 m + c)

m is the shared mean, S_i the spread of items around it, A and c are the node's own `item_precision` and `item_pull`. A
user's own part is taken out again where it meets the user's own ratings, so a node with one user gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.rows import arrange
from hierfed.methods.hierarchical.users import Posterior, Users, item_sums
from hierfed.models.places import places_among
from hierfed.models.symmetric import inverse, pack, unpack


@dataclass(frozen=True)
class NodeItems:
    """Posteriors of items at a node; private to the node.

    numbers [items]: of the items, ascending. mean [items, 1 + rank], covariance [items, packed]: of (b_i, q_i).
    """

    numbers: Tensor
    mean: Tensor
    covariance: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the node's own disk."""
        return {f"node_item_{name}": tensor for name, tensor in vars(self).items()}

    @classmethod
    def among(cls, kept: Mapping[str, Tensor]) -> NodeItems | None:
        """From tensors of a node's disk; None if they hold no such items."""
        names = ("numbers", "mean", "covariance")
        if f"node_item_{names[0]}" not in kept:
            return None
        return cls(*(kept[f"node_item_{name}"] for name in names))


def items_of(beliefs: Beliefs, at_node: NodeItems | None, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The means and packed covariances of (b_i, q_i) for these items, and whether the node has its own; all [rows]."""
    mean, covariance = beliefs.item_mean[item], beliefs.item_covariance[item]
    if at_node is None:
        return mean, covariance, torch.zeros_like(item, dtype=torch.bool)
    place, known = places_among(at_node.numbers, item)
    mean[known], covariance[known] = at_node.mean[place[known]], at_node.covariance[place[known]]
    return mean, covariance, known


def node_items(
    beliefs: Beliefs, design: Design, scale: Tensor, cohort: Cohort, found: Posterior, precision: Tensor
) -> NodeItems | None:
    """The posteriors of the items under the threshold that a node's users have rated; None if there are none.

    scale: the centre and the unit of ratings.
    found, precision: of the users, as they made their last sums.
    """
    user = np.repeat(np.arange(len(cohort)), np.diff(cohort.rows))
    rare = (design.shared == 0).numpy()[cohort.item]
    if not rare.any():
        return None
    who, place = np.unique(user[rare], return_inverse=True)
    centre, unit = scale
    value = (torch.from_numpy(cohort.value[rare]).double() - centre) / unit
    rows = arrange(place, cohort.item[rare], value, design.padded_content, 1 - design.shared)
    some = torch.from_numpy(who)
    part = Posterior(found.mean[some], found.covariance[some], found.squared_error[some])
    sums = item_sums(design, Users(rows, value.new_zeros(len(who), 0)), part, precision[some], beliefs.rank)
    numbers = (design.shared == 0).nonzero()[:, 0][rows.sent]
    prior = inverse(beliefs.item_spread)
    covariance = inverse(unpack(sums[0] + pack(prior), 1 + beliefs.rank))
    pull = beliefs.item_mean[numbers] @ prior + sums[1]
    return NodeItems(numbers, torch.bmm(covariance, pull[:, :, None])[:, :, 0], pack(covariance))
