"""Items at a node: posteriors from ratings of the node's own users that are in no shared sum. Nothing of them is sent.

    Cov = (C_i^-1 + A)^-1,  g = Cov (C_i^-1 m_i + c)

m_i and C_i are the mean and the covariance that the node knew before, A and c its own `item_precision` and `item_pull`.
Items under the threshold learn from all ratings there, and others from those that came after the rounds. A user's own
part is taken out again where it meets the user's own ratings, so a node with one user gains nothing.
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
from hierfed.methods.hierarchical.rows import UserRows, arrange
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
    centre, unit = scale
    value = (torch.from_numpy(cohort.value[rare]).double() - centre) / unit
    numbers = torch.from_numpy(np.unique(cohort.item[rare])).long()
    prior = NodeItems(numbers, beliefs.item_mean[numbers], pack(beliefs.item_spread).expand(len(numbers), -1))
    some, rows = messages_of(design, user[rare], cohort.item[rare], value)
    return with_messages(beliefs, design, prior, rows, of_some(found, some), precision[some])


def messages_of(design: Design, user: np.ndarray, item: np.ndarray, value: Tensor) -> tuple[Tensor, UserRows]:
    """The users of these ratings, ascending, and the ratings arranged so that each item gets messages of its own.

    user, item [ratings]: the users' places, each user's ratings side by side, and the items' numbers.
    value [ratings]: on the scale of models.
    """
    who, place = np.unique(user, return_inverse=True)
    rated = torch.zeros_like(design.shared)
    rated[torch.from_numpy(item).long()] = 1
    return torch.from_numpy(who), arrange(place, item, value, design.padded_content, rated)


def of_some(found: Posterior, users: Tensor) -> Posterior:
    """The posteriors of the users at these places."""
    return Posterior(found.mean[users], found.covariance[users], found.squared_error[users])


def with_messages(
    beliefs: Beliefs, design: Design, at_node: NodeItems | None, rows: UserRows, found: Posterior, precision: Tensor
) -> NodeItems:
    """The node's posteriors of items with the messages of these ratings, of which none are in them yet.

    at_node: what it knew; None for nothing beyond the shared model.
    rows: of some users, as `messages_of` gives them. found, precision: of these users.
    """
    users = Users(rows, precision.new_zeros(len(precision), 0))
    sums, size = item_sums(design, users, found, precision, beliefs.rank), 1 + beliefs.rank
    numbers = torch.unique(rows.ratings.col_indices().long())
    mean, covariance, _ = items_of(beliefs, at_node, numbers)
    prior = inverse(unpack(covariance, size))
    covariance = inverse(prior + unpack(sums[0], size))
    pull = torch.bmm(prior, mean[:, :, None])[:, :, 0] + sums[1]
    return _over(at_node, NodeItems(numbers, torch.bmm(covariance, pull[:, :, None])[:, :, 0], pack(covariance)))


def _over(former: NodeItems | None, later: NodeItems) -> NodeItems:
    """The items of both; of those in both, what came later."""
    if former is None:
        return later
    kept = ~torch.isin(former.numbers, later.numbers)
    order = torch.cat([former.numbers[kept], later.numbers]).argsort()
    parts = zip(vars(former).values(), vars(later).values(), strict=True)
    return NodeItems(*(torch.cat([first[kept], then])[order] for first, then in parts))
