"""The opening rounds of the hierarchical model: what nodes send and the server makes of it before there is a model.

First the raters of each item and the moments of the ratings; then, round after round, what was rated together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution
from hierfed.models.factors.design import Design
from hierfed.models.factors.embedding import (
    co_rating_sums,
    implicit_items,
    implicit_sums,
    leading_vectors,
    next_basis,
)
from hierfed.models.factors.rows import UserRows

# The standard deviation of ratings in the unit that the priors' strengths are meant for.
USUAL_DEVIATION = 1.05


def counts(train: Ratings, items: int) -> Contribution:
    """A node's raters of each item, its number of users, and number, sum and sum of squares of its ratings."""
    value = torch.from_numpy(train.value).double()
    raters = torch.bincount(torch.from_numpy(train.item).long(), minlength=items).double()
    moments = torch.stack([torch.ones_like(value).sum(), value.sum(), value.square().sum()])
    users = moments.new_tensor([len(np.unique(train.user))])
    return Contribution({"raters": raters, "moments": moments, "users": users})


def first_arrays(sums: Mapping[str, Tensor], threshold: int) -> dict[str, Tensor]:
    """Raters, 0 for items under the threshold, users, and the ratings' mean and unit."""
    count, total, squares = sums["moments"]
    centre = total / count
    deviation = (squares / count - centre.square()).clamp_min(0).sqrt()
    unit = deviation / USUAL_DEVIATION if deviation > 0 else torch.ones_like(deviation)
    raters = torch.where(sums["raters"] >= threshold, sums["raters"], 0.0)
    return {"raters": raters, "users": sums["users"], "scale": torch.stack([centre, unit])}


def co_ratings(arrays: Mapping[str, Tensor], design: Design, rows: UserRows) -> Contribution:
    """A node's product with the co-rating matrix; or, once there is an embedding, its sums for an implicit round."""
    if "basis" in arrays:
        scaled = _root_counts(arrays, design)[:, None] * arrays["basis"]
        sums = co_rating_sums(rows, design.shared, scaled)
        return Contribution({"co_ratings": among_all(sums, rows.items, len(design.raters))})
    products, vectors, user_products = implicit_sums(rows, design.shared, arrays["embedding"])
    return Contribution(
        {
            "products": among_all(products, rows.items, len(design.raters)),
            "sums": among_all(vectors, rows.items, len(design.raters)),
            "user_products": user_products,
        }
    )


def next_arrays(
    arrays: Mapping[str, Tensor], design: Design, sums: Mapping[str, Tensor], rank: int, last_product: bool
) -> dict[str, Tensor]:
    """The arrays with the next basis; after the last product with the embedding of this rank; then it is sharpened."""
    known = dict(arrays)
    if "basis" not in known:
        of_users = sums["user_products"], known["raters"], known["users"]
        known["embedding"] = implicit_items(sums["products"], sums["sums"], *of_users, design.shared)
        return known
    scale, basis = _root_counts(known, design), known.pop("basis")
    if last_product:
        known["embedding"] = leading_vectors(scale, basis, sums["co_ratings"], rank)
    else:
        known["basis"] = next_basis(scale, sums["co_ratings"])
    return known


def among_all(sums: Tensor, items: Tensor, count: int) -> Tensor:
    """A node's sums for its own items, [own items, columns], among zeros for all others: [count, columns]."""
    return sums.new_zeros(count, sums.shape[1]).index_copy_(0, items, sums)


def _root_counts(arrays: Mapping[str, Tensor], design: Design) -> Tensor:
    return arrays["raters"].clamp_min(1) ** -0.25 * design.shared
