"""The opening rounds of the hierarchical model: the sums that come before any model.

The first round counts the raters of each item and the moments of the ratings. The next rounds make the embedding from
co-ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hierfed.data.grouping import count
from hierfed.data.rater_classes import rounded_up
from hierfed.federated.checks import Check
from hierfed.methods.hierarchical.checks import co_rating_checks, implicit_checks
from hierfed.methods.hierarchical.cohort import Cohort, Part
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.embedding import (
    co_rating_sums,
    implicit_items,
    implicit_sums,
    leading_vectors,
    next_basis,
    shared_products,
)
from hierfed.methods.hierarchical.rows import UserRows

# The standard deviation of ratings, in the unit that the priors' strengths assume.
USUAL_DEVIATION = 1.05

OpeningPart = Callable[[UserRows], Part]
"""The part of some users, from their rows, in the sums of an opening round."""


def counts(cohort: Cohort, items: int) -> dict[str, Tensor]:
    """The raters of each item, the number of users, and the number, sum and sum of squares of their ratings."""
    value = torch.from_numpy(cohort.value).double()
    raters = torch.from_numpy(count(cohort.item, items)).double()
    moments = torch.stack([value.new_tensor(len(value)), value.sum(), value.square().sum()])
    return {"raters": raters, "moments": moments, "users": moments.new_tensor([len(cohort)])}


def first_arrays(sums: Mapping[str, Tensor], threshold: int) -> dict[str, Tensor]:
    """The items' classes of raters (0 under the threshold), the number of users, and the ratings' mean and unit."""
    count, total, squares = sums["moments"]
    centre = total / count
    deviation = (squares / count - centre.square()).clamp_min(0).sqrt()
    unit = deviation / USUAL_DEVIATION if deviation > 0 else torch.ones_like(deviation)
    raters = torch.from_numpy(rounded_up(sums["raters"].numpy(), threshold))
    return {"raters": raters, "users": sums["users"], "scale": torch.stack([centre, unit])}


def co_ratings(arrays: Mapping[str, Tensor], design: Design) -> OpeningPart:
    """The users' part of a product with the co-rating matrix or, once there is an embedding, of an implicit round."""
    if "basis" in arrays:
        scaled = _root_counts(arrays, design)[:, None] * arrays["basis"]
        return lambda rows: Part(rows.sent, {"co_ratings": co_rating_sums(rows, design.shared, scaled)}, {})
    embedding = arrays["embedding"] * design.shared[:, None]
    outer = shared_products(design.shared, embedding)

    def implicit(rows: UserRows) -> Part:
        products, vectors, user_products = implicit_sums(rows, design.shared, embedding, outer)
        return Part(rows.sent, {"products": products, "sums": vectors}, {"user_products": user_products})

    return implicit


def basis_of(arrays: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
    """The basis whose product with the co-rating matrix is of this embedding itself. embedding: 0 for others."""
    return embedding / arrays["raters"].clamp_min(1)[:, None] ** -0.25


def checks(arrays: Mapping[str, Tensor], design: Design) -> Sequence[Check]:
    """Checks of these sums; see SumMethod."""
    raters = arrays["raters"][design.shared_items]
    if "basis" in arrays:
        scaled = _root_counts(arrays, design)[:, None] * arrays["basis"]
        return co_rating_checks(raters, arrays["users"], scaled[design.shared_items])
    return implicit_checks(raters, arrays["users"])


def next_arrays(
    arrays: Mapping[str, Tensor], design: Design, sums: Mapping[str, Tensor], rank: int, last_product: bool
) -> dict[str, Tensor]:
    """The arrays after an opening round: with the next basis, then the embedding, then the sharpened embedding.

    rank: of the embedding.
    last_product: True if the round was the last product with the co-rating matrix.
    """
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
