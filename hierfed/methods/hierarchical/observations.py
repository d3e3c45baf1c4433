"""A user's own ratings as observations to krige from: how far each is from the prior mean, and how noisy it is."""

from __future__ import annotations

import torch
from torch import Tensor

from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.models.kriging import Observations

# The noise of a rating falls with this power of the item's number of raters.
NOISE_FALL = 0.1


def observed(
    knowledge: SharedKnowledge,
    counts: Tensor,
    items: Tensor,
    ratings: Tensor,
    item_mean: Tensor,
    prior_mean: Tensor,
    noise: Tensor,
) -> Observations:
    """Own ratings as observations.

    item_mean: (b_i, q_i) of the rated items, [ratings, 1 + rank].
    prior_mean: m_u of the users who rated them.
    """
    bias, factors = item_mean[:, 0], item_mean[:, 1:]
    vectors = torch.cat([factors.new_ones(len(factors), 1), factors, knowledge.design.slopes[items]], 1)
    value = (ratings - knowledge.scale.centre) / knowledge.scale.unit
    return Observations(
        counts=counts,
        items=items,
        ratings=ratings,
        vectors=knowledge.with_quality(vectors, bias),
        residuals=value - bias - (vectors * prior_mean).sum(1),
        noise=noise,
    )


def noise_weights(design: Design, items: Tensor, counts: Tensor) -> Tensor:
    """Factors on the noise of users' own ratings, of mean 1 for each user. Items with fewer raters get more noise."""
    weights = (1 + design.raters[items]) ** -NOISE_FALL
    user = torch.repeat_interleave(counts)
    means = torch.zeros_like(counts, dtype=weights.dtype).index_add(0, user, weights) / counts
    return weights / means[user]
