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
        return Contribution({"co_ratings": co_rating_sums(rows, design.shared, scaled)})
    products, vectors, user_products = implicit_sums(rows, design.shared, arrays["embedding"])
    return Contribution({"products": products, "sums": vectors, "user_products": user_products})


def next_arrays(
    arrays: Mapping[str, Tensor], design: Design, sums: Mapping[str, Tensor], rank: int, last_product: bool
) -> dict[str, Tensor]:
    """The arrays with the next basis; after the last product with the embedding of this rank; then it is sharpened."""
    known = dict(arrays)
    if "basis" not in known:
        of_users = sums["user_products"], known["raters"][design.shared_items], known["users"]
        known["embedding"] = design.among_all(implicit_items(sums["products"], sums["sums"], *of_users))
        return known
    co_ratings = design.among_all(sums["co_ratings"])
    scale, basis = _root_counts(known, design), known.pop("basis")
    if last_product:
        known["embedding"] = leading_vectors(scale, basis, co_ratings, rank)
    else:
        known["basis"] = next_basis(scale, co_ratings)
    return known


def _root_counts(arrays: Mapping[str, Tensor], design: Design) -> Tensor:
    return arrays["raters"].clamp_min(1) ** -0.25 * design.shared
