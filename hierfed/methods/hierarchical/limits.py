"""Public limits of the hierarchical model's sums, from the shared model alone, so that they can be sent in few bits.

    D_i = n_i tau diag(m) + diag(Cov_i^-1),  |A_ijk| <= 2 (D_ij D_ik)^1/2,  |c_i - A_i g_i|_k <= D_ik

n_i: the item's raters; m: 1 and the users' mean squared factors; A_i, c_i: its sums `item_precision` and `item_pull`.
Rounding then moves a posterior by a small part of itself: a sum of m nodes in b bits has errors of about
(m / 6)^1/2 2^(2 - b) (D_ij D_ik)^1/2 in A_i, so it stays positive definite. What is sent of c_i is its pull from g_i,
the mean that all know: near the end it is small, and an error of A_i does not move the mean where it is right already.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.steps import Limit
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.embedding import REGULARISATION
from hierfed.models.symmetric import inverse, pack, unpack

# Factors on what is expected; totals stayed below half of the limits on all data that they were tried on.
PRECISION, FIRST_PULL, PULL, CO_RATINGS, OF_USERS = 2.0, 4.0, 1.0, 8.0, 1000.0

# The last product with the co-rating matrix follows round -2.
FIRST_FINE_PRODUCT = -3
SYMMETRIC = ("covariate_products", "user_moments")


def limits_of(arrays: Mapping[str, Tensor], design: Design, rank: int, round_number: int) -> dict[str, Limit]:
    """The limits of the total after this round; see Limited."""
    raters = design.raters[design.shared_items][:, None]
    if "basis" in arrays:
        weights = raters.clamp_min(1) ** -0.25 * arrays["basis"][design.shared_items].abs()
        # In 8 bits the errors are as large as many entries; two products in 16 wash out what they did to the subspace.
        bits = 16 if round_number >= FIRST_FINE_PRODUCT else 8
        return {"co_ratings": Limit(CO_RATINGS * raters * (raters * weights).sum(0) / raters.sum(), bits)}
    everybody = Limit(OF_USERS * arrays["users"], 32)
    if round_number < 0:
        # A user's vector x has |x|^2 <= 1 / REGULARISATION, and more than a column or two of it are never as large.
        squared = 1 / (REGULARISATION * max(1.0, arrays["embedding"].shape[1] / 2))
        return {
            "products": Limit(squared * raters, 16),
            "sums": Limit(squared**0.5 * raters, 16),
            "user_products": everybody,
        }
    squares = torch.cat([raters.new_ones(1), torch.diagonal(arrays["user_spread"])[1 : 1 + rank]])
    scale = raters * arrays["precision"] * squares
    if round_number > 0:
        covariance = unpack(arrays["item_covariance"][design.shared_items], 1 + rank)
        scale = scale + torch.diagonal(inverse(covariance), dim1=1, dim2=2)
    row, column = torch.tril_indices(1 + rank, 1 + rank)
    return {
        "item_precision": Limit(PRECISION * (scale[:, row] * scale[:, column]).sqrt()),
        "item_pull": Limit((PULL if round_number else FIRST_PULL) * scale, 16),
        **dict.fromkeys(("covariate_products", "covariate_targets", "user_moments", "node_moments"), everybody),
    }


def reduced(sums: Contribution, shared: SharedModel, design: Design) -> Contribution:
    """The sums with `item_pull` from the items' means in place of zero, and symmetric matrices packed."""
    packed = {name: pack(sums.arrays[name]) for name in SYMMETRIC}
    return Contribution({**sums.arrays, "item_pull": _moved_pull(sums, shared, design, -1), **packed})


def restored(sums: Contribution, shared: SharedModel, design: Design) -> Contribution:
    """The sums of reduced ones, as they were."""
    size = len(sums.arrays["covariate_targets"])
    whole = {name: unpack(sums.arrays[name], size) for name in SYMMETRIC}
    return Contribution({**sums.arrays, "item_pull": _moved_pull(sums, shared, design, 1), **whole})


def _moved_pull(sums: Contribution, shared: SharedModel, design: Design, sign: int) -> Tensor:
    mean = shared.arrays["item_mean"][design.shared_items]
    precision = unpack(sums.arrays["item_precision"], mean.shape[1])
    pull: Tensor = sums.arrays["item_pull"] + sign * torch.bmm(precision, mean[:, :, None])[:, :, 0]
    return pull
