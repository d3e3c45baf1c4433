"""Cavity posteriors of the items: a user's own messages are taken out (expectation propagation, Minka, 2001).

A user's ratings are in the sums that made the posteriors of the rated items. Both together would count them twice. The
user alone knows its own messages, and divides them out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.node_items import NodeItems, items_of
from hierfed.methods.hierarchical.rows import UserRows
from hierfed.methods.hierarchical.users import Posterior, content_products, factor_products
from hierfed.models.symmetric import inverse, pack, unpack

BLOCK = 8192


def own_ratings(rows: UserRows) -> tuple[Tensor, Tensor, Tensor]:
    """The user's place, the item's number and the value of each rating, user after user."""
    user = torch.repeat_interleave(torch.arange(len(rows.counts)).to(rows.counts.device), rows.counts.long())
    return user, rows.ratings.col_indices().long(), rows.ratings.values()


def without_own(
    beliefs: Beliefs,
    rows: UserRows,
    design: Design,
    found: Posterior,
    precision: Tensor,
    was_sent: Tensor | None = None,
    at_node: NodeItems | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean [ratings, 1 + rank] and packed covariance of each rating's item, without its user's own messages.

    found, precision: the users' posteriors and precisions that made their last sums.
    was_sent: bool [ratings], True for the ratings in those sums; None for all.
    at_node: the node's own posteriors, which hold the users' messages too.
    """
    size = 1 + beliefs.rank
    user, number, value = own_ratings(rows)
    items, item = torch.unique(number, return_inverse=True)
    mean, covariance, own_items = items_of(beliefs, at_node, items)
    prior_precision = inverse(unpack(covariance, size))
    pull = torch.bmm(prior_precision, mean[:, :, None])[:, :, 0]
    products = factor_products(found, beliefs.rank) * precision[:, None, None]
    mixed = content_products(found, beliefs.rank) * precision[:, None, None]
    content, shared = design.padded_content[items], torch.where(own_items, 1.0, design.shared[items])
    means, covariances = [], []
    for begin in range(0, len(value), BLOCK):
        chosen = slice(begin, begin + BLOCK)
        who, what, rating = user[chosen], item[chosen], value[chosen]
        sent = shared[what] if was_sent is None else shared[what] * was_sent[chosen]
        own_pull = rating[:, None] * products[who, 0] - torch.einsum("nf,nfk->nk", content[what], mixed[who])
        left = inverse(prior_precision[what] - products[who] * sent[:, None, None])
        means.append(torch.bmm(left, (pull[what] - own_pull * sent[:, None])[:, :, None])[:, :, 0])
        covariances.append(pack(left))
    empty = value.new_zeros(0, 0)
    return torch.cat(means) if means else empty, torch.cat(covariances) if covariances else empty
