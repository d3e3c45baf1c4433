"""The server's half of the hierarchical model: posteriors of items and all priors, from sums alone.

    Cov_i = (S_i^-1 + A_i)^-1,  g_i = Cov_i (S_i^-1 G' F_i + c_i);  G = ridge of g on F;  S_i = mean(dev dev' + Cov_i)
    B = ridge of z - m_node on h;  S_u = shrunken mean moment;  tau = mean tau_u;  v_j the variance between nodes

A_i and c_i are the item's sums `item_precision` and `item_pull`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy.special import chdtri
from torch import Tensor

from hierfed.data.rater_classes import next_edge
from hierfed.methods.hierarchical.beliefs import (
    ITEM_BIAS_VARIANCE,
    ITEM_FACTOR_VARIANCE,
    Beliefs,
    Strengths,
    prior_user_variances,
)
from hierfed.methods.hierarchical.design import Design
from hierfed.models.symmetric import inverse, pack, unpack

# Ridges on the constants of the prior means, which are hardly shrunk.
CONSTANT_COVARIATE, CONSTANT_CONTENT = 0.01, 0.05
# Nodes get means of their own only if they differ at this significance level, over all coordinates together. An
# estimate that is merely cut at zero would let half of the coordinates through even if nodes are alike.
CHANCE = 0.001


def in_classes(sums: Mapping[str, Tensor], raters: Tensor) -> dict[str, Tensor]:
    """The sums as if each item had as many raters as its class's upper edge, who say on average what its own raters do.

    Nodes can compute A_i from the covariances that they are sent, and its first entry is the sum of the raters'
    precisions. So it has to be one of a class too. Upwards, so that nobody takes more out of an item than it holds.

    raters: of the shared items; those with 0 have sums of 0.
    """
    own = raters.clamp_min(1)
    factor = (torch.from_numpy(next_edge(own.numpy())) / own)[:, None]
    return {**sums, **{name: factor * sums[name] for name in ("item_precision", "item_pull")}}


def update_users(
    beliefs: Beliefs, design: Design, sums: Mapping[str, Tensor], strengths: Strengths, own_noise: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The new covariate weights, user spread, precision and node variances.

    own_noise: True if users have precisions tau_u of their own.
    """
    users = sums["users"]
    ridge = torch.full_like(sums["covariate_products"][0], strengths.covariates)
    ridge[0] *= CONSTANT_COVARIATE
    weights = torch.linalg.solve(sums["covariate_products"] + torch.diag(ridge), sums["covariate_targets"])
    prior = torch.diag(prior_user_variances(design, beliefs.rank))
    spread = (sums["user_moments"] + strengths.moments * prior) / (users + strengths.moments)
    precision = sums["precision"] / users if own_noise else sums["ratings"] / sums["squared_error"]
    return weights, spread, precision, _between_nodes(sums["node_moments"], users, torch.diagonal(spread))


def blended(
    beliefs: Beliefs, users: tuple[Tensor, Tensor, Tensor, Tensor], step: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The users' priors, moved by `step` from the old ones to those that `update_users` gave."""
    weights, spread, precision, variance = users
    return (
        torch.lerp(beliefs.covariate_weights, weights, step),
        torch.lerp(beliefs.user_spread, spread, step),
        torch.lerp(beliefs.precision, precision, step),
        torch.lerp(beliefs.node_variance, variance, step),
    )


def _between_nodes(moments: Tensor, users: Tensor, within: Tensor) -> Tensor:
    mean, square, inverse_users, nodes, weighted_square, weighted = moments
    count = float(nodes[0])
    if count < 2:
        return torch.zeros_like(within)
    spread = (weighted_square - weighted.square() / users) / within
    differ = spread > float(chdtri(count - 1, CHANCE / len(within)))
    variance = (square - mean.square() / count) / (count - 1) - within * inverse_users / count
    return torch.where(differ, variance.clamp_min(0), torch.zeros_like(variance))


def update_items(
    beliefs: Beliefs,
    design: Design,
    prior_features: Tensor,
    sums: Mapping[str, Tensor],
    strengths: Strengths,
    learn_prior: bool,
    weight: float = 1.0,
    step: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The new item means, packed covariances, prior weights and prior spread. Items that are not shared keep the prior.

    prior_features: F [items, d].
    sums: those of items have a row per shared item, ascending.
    learn_prior: True if the items are far enough from their start to learn G and S_i.
    weight: factor on the sums; above 1 if they stand for more users than took part.
    step: the fraction by which the natural parameters move from the old posteriors to the new ones.
    """
    size, shared = 1 + beliefs.rank, design.shared_items
    features = prior_features[shared]
    spread, weights = beliefs.item_spread, beliefs.item_weights
    prior_precision = inverse(spread)
    precision = unpack(weight * sums["item_precision"] + pack(prior_precision), size)
    pull = (features @ weights) @ prior_precision + weight * sums["item_pull"]
    if step < 1:
        old = inverse(unpack(beliefs.item_covariance[shared], size))
        precision = torch.lerp(old, precision, step)
        pull = torch.lerp(torch.bmm(old, beliefs.item_mean[shared][:, :, None])[:, :, 0], pull, step)
    covariance = inverse(precision)
    mean, packed = torch.bmm(covariance, pull[:, :, None])[:, :, 0], pack(covariance)
    if learn_prior:
        ridge = features.new_full((features.shape[1],), strengths.content)
        ridge[0] *= CONSTANT_CONTENT
        weights = torch.linalg.solve(features.T @ features + torch.diag(ridge), features.T @ mean)
        deviation = mean - features @ weights
        shrunk_to = torch.diag(mean.new_tensor([ITEM_BIAS_VARIANCE] + [ITEM_FACTOR_VARIANCE] * beliefs.rank))
        moments = deviation.T @ deviation + unpack(packed.sum(0), size) + strengths.moments * shrunk_to
        spread = moments / (len(shared) + strengths.moments)
    means = (prior_features @ weights).index_copy_(0, shared, mean)
    covariances = pack(spread).repeat(len(prior_features), 1).index_copy_(0, shared, packed)
    return means, covariances, weights, spread
