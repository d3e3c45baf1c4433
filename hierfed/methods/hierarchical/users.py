"""The users' half of the hierarchical model: private posteriors, and the sums over users that a node sends.

For each user, with x = (1, q, f) and expectations over the items' posteriors (variational Bayes):

    Z = [S_u^-1 + tau sum E(x x')]^-1,  z = Z [S_u^-1 m + tau sum ((y - b_i) E x - Cov(x, b_i))],  m = B' h + m_node
    tau = (a0 + n / 2) / (a0 / tau_0 + 1/2 sum E[e^2])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.rows import UserRows
from hierfed.models.symmetric import inverse, outer_packed, pack, unpack

# A user's covariates are means over the rated items, shrunk as if the user had rated so many average items more.
COVARIATE_SHRINKAGE = 5.0
FACTOR_COVARIATE_SCALE = 3.0


@dataclass(frozen=True)
class ItemMoments:
    """The moments of all items that users need in a round, made once from the shared model.

    vectors [items + 1, 2 + rank + slopes]: means of (b_i, q_i), and (1, f_i), with a last row of zeros.
    products [items, packed]: E (b_i, q_i)(b_i, q_i)'.
    average [rank]: q of the average rating.
    implicit [items, k]: an embedding whose means over a user's rated items are covariates; None for none.
    rare [items, 2 + rank + slopes]: (b_i, x_i) of items under the threshold, 0 for others; None where none are pooled.
    """

    vectors: Tensor
    products: Tensor
    average: Tensor
    rank: int
    implicit: Tensor | None = None
    rare: Tensor | None = None


@dataclass(frozen=True)
class Users:
    """Some users' rows, and the sums of their items' covariates [users, c], which the rounds do not change."""

    rows: UserRows
    covariates: Tensor

    def to(self, device: torch.device) -> Users:
        """The same on a device."""
        return Users(self.rows.to(device), self.covariates.to(device))


@dataclass(frozen=True)
class Evidence:
    """The sums over the items' posteriors that each user's posterior needs.

    products [users, t, t]: sum of E x x'.
    targets [users, t]: sum of (y - b_i) E x - Cov(x, b_i).
    squares [users]: sum of E (y - b_i)^2.
    covariates [users, h]: h_u, with a leading 1.
    rare_vectors [users, t], rare_residuals [users]: sums of x_i and of y - b_i over items under the threshold; None
    where these are not pooled.
    """

    products: Tensor
    targets: Tensor
    squares: Tensor
    covariates: Tensor
    rare_vectors: Tensor | None = None
    rare_residuals: Tensor | None = None


@dataclass(frozen=True)
class Posterior:
    """Private: mean [users, t] and covariance [users, t, t] of z_u, and the expected sum of squared errors [users]."""

    mean: Tensor
    covariance: Tensor
    squared_error: Tensor


def prepare(rows: UserRows, design: Design) -> Users:
    """Quantities of users that are computed once; see Users."""
    return Users(rows, rows.rated @ design.covariates)


def item_moments(beliefs: Beliefs, design: Design, implicit: Tensor | None = None, pooled: bool = False) -> ItemMoments:
    """See ItemMoments. pooled: True if the items under the threshold are."""
    mean = beliefs.item_mean
    padded = torch.cat([mean, mean.new_zeros(1, mean.shape[1])])
    vectors = torch.cat([mean[:, :1], mean.new_ones(len(mean), 1), mean[:, 1:], design.slopes], 1)
    return ItemMoments(
        vectors=torch.cat([padded, design.padded_content], 1),
        products=outer_packed(mean) + beliefs.item_covariance,
        average=(design.raters @ mean[:, 1:]) / design.raters.sum(),
        rank=beliefs.rank,
        implicit=implicit,
        rare=(1 - design.shared)[:, None] * vectors if pooled else None,
    )


def evidence(moments: ItemMoments, users: Users) -> Evidence:
    """Sums over each user's ratings of expectations over the items' posteriors."""
    rows, size = users.rows, 1 + moments.rank
    item_products = unpack(rows.rated @ moments.products, size)
    cross = rows.cross(moments.vectors, size)
    content_products = unpack(rows.content_products, cross.shape[2])
    products = cross.new_empty(len(cross), size + cross.shape[2] - 1, size + cross.shape[2] - 1)
    products[:, 0, 0] = content_products[:, 0, 0]
    products[:, 0, size:] = products[:, size:, 0] = content_products[:, 0, 1:]
    products[:, size:, size:] = content_products[:, 1:, 1:]
    factor_rows = torch.cat([cross[:, 1:, :1], item_products[:, 1:, 1:], cross[:, 1:, 1:]], 2)
    products[:, 1:size, :] = factor_rows
    products[:, :, 1:size] = factor_rows.transpose(1, 2)
    weighted = rows.ratings @ moments.vectors[:-1, :size]
    content = rows.rating_content
    targets = torch.cat(
        [
            (content[:, 0] - cross[:, 0, 0])[:, None],
            weighted[:, 1:] - item_products[:, 1:, 0],
            content[:, 1:] - cross[:, 0, 1:],
        ],
        1,
    )
    squares = rows.rating_squares - 2 * weighted[:, 0] + item_products[:, 0, 0]
    covariates = _covariates(moments, users, cross[:, 1:, 0])
    if moments.rare is None:
        return Evidence(products, targets, squares, covariates)
    rare = rows.rated @ moments.rare
    rated = rows.ratings @ moments.rare[:, 1]
    return Evidence(products, targets, squares, covariates, rare[:, 1:], rated - rare[:, 0])


def _covariates(moments: ItemMoments, users: Users, factor_sums: Tensor) -> Tensor:
    counts = users.rows.counts[:, None]
    factors = FACTOR_COVARIATE_SCALE * (factor_sums - counts * moments.average)
    implicit = [] if moments.implicit is None else [users.rows.rated @ moments.implicit]
    sums = torch.cat([users.covariates, *implicit, factors], 1)
    return torch.cat([torch.ones_like(counts), sums / (counts + COVARIATE_SHRINKAGE)], 1)


def posterior(known: Evidence, spread: Tensor, prior_mean: Tensor, precision: Tensor) -> Posterior:
    """The users' posteriors.

    spread: S_u, [t, t].
    prior_mean: [users, t].
    precision: [users].
    """
    prior_precision, tau = inverse(spread), precision[:, None]
    covariance = inverse(torch.addcmul(prior_precision, tau[:, :, None], known.products))
    right = torch.addcmul(prior_mean @ prior_precision, tau, known.targets)
    mean = torch.einsum("uab,ub->ua", covariance, right)
    # tr(products E z z') without a pass over the products: both terms follow from the normal equations.
    size = spread.shape[0]
    traces = size - covariance.flatten(1) @ prior_precision.flatten()
    quadratic = (mean * (right - mean @ prior_precision)).sum(1)
    squared = known.squares - 2 * (mean * known.targets).sum(1) + (quadratic + traces) / precision
    return Posterior(mean, covariance, squared.clamp_min(1e-9))


def precision_of(shape: float, precision: Tensor, counts: Tensor, squared_error: Tensor) -> Tensor:
    """tau_u of each user.

    shape: a0.
    precision: the precision of the prior, [1].
    counts, squared_error: [users].
    """
    return (shape + counts / 2) / (shape / precision + squared_error / 2)


def node_means(beliefs: Beliefs, deviation: Tensor, users: Tensor) -> Tensor:
    """m_node [nodes, t]: the mean deviation of a node's users from their prior means, shrunk by the variance of nodes.

    deviation [nodes, t]: of the last round; 0 in the first.
    users [nodes]: the number of users; a mean over them has variance S_u / users.
    """
    within = torch.diagonal(beliefs.user_spread) / users[:, None]
    return beliefs.node_variance / (beliefs.node_variance + within) * deviation


def factor_products(found: Posterior, rank: int) -> Tensor:
    """E (1, p)(1, p)' of each user, [users, 1 + rank, 1 + rank]."""
    factors = torch.cat([torch.ones_like(found.mean[:, :1]), found.mean[:, 1 : 1 + rank]], 1)
    products = factors[:, :, None] * factors[:, None, :]
    products[:, 1:, 1:] += found.covariance[:, 1 : 1 + rank, 1 : 1 + rank]
    return products


def content_products(found: Posterior, rank: int) -> Tensor:
    """E (b, w)(1, p)' of each user, [users, 1 + slopes, 1 + rank]."""
    mean, covariance, size = found.mean, found.covariance, 1 + rank
    factors = torch.cat([torch.ones_like(mean[:, :1]), mean[:, 1:size]], 1)
    others = torch.cat([mean[:, :1], mean[:, size:]], 1)
    products = others[:, :, None] * factors[:, None, :]
    products[:, 0, 1:] += covariance[:, 0, 1:size]
    products[:, 1:, 1:] += covariance[:, size:, 1:size]
    return products


def item_sums(design: Design, users: Users, found: Posterior, precision: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Sums over users for each shared item that they have rated.

    They are of tau E (1, p)(1, p)', packed, and of tau E (1, p)(y - b_u - w . f).
    """
    rows, tau = users.rows, precision[:, None]
    products = factor_products(found, rank)
    mixed = content_products(found, rank).mul_(precision[:, None, None])
    pull = rows.ratings_of @ (products[:, 0] * tau) - rows.back_cross(design.padded_content, mixed)
    return rows.raters @ (pack(products) * tau), pull
