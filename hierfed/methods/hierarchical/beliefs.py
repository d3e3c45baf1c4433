"""The parameters of the hierarchical model at the server, and the strengths of its first priors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hierfed.methods.hierarchical.design import Design
from hierfed.models.symmetric import pack

BIAS_VARIANCE, FACTOR_VARIANCE = 0.15, 0.02
ITEM_BIAS_VARIANCE, ITEM_FACTOR_VARIANCE = 0.2, 0.02
FIRST_FACTOR_VARIANCE, FIRST_NOISE_VARIANCE, FIRST_ITEM_COVARIANCE, FIRST_FACTOR = 0.09, 0.75, 0.05, 0.1


@dataclass(frozen=True)
class Strengths:
    """Strengths of the priors, as the number of users or items that they count for.

    noise: of the users' precisions (the shape a0 of their Gamma prior).
    covariates, content: ridges on the weights of users' and items' prior means.
    moments: of the prior covariances of users and items.
    """

    noise: float = 6.0
    covariates: float = 50.0
    content: float = 10.0
    moments: float = 10.0


@dataclass(frozen=True)
class Beliefs:
    """The shared model r = centre + unit (b_i + z_u . x_i + e), x_i = (1, q_i, f_i). It holds nothing of a single user.

    t = 1 + rank + slopes.

    item_mean [items, 1 + rank]: posterior mean of (b_i, q_i).
    item_covariance [items, packed]: posterior covariance of (b_i, q_i).
    item_weights [d, 1 + rank] and item_spread [1 + rank, 1 + rank]: G and S_i; the items' priors have mean F_i' G and
    covariance S_i.
    covariate_weights [h, t] and user_spread [t, t]: B and S_u; the users' priors have mean B' h_u and covariance S_u.
    precision [1]: of the noise, for an unknown user.
    node_variance [t]: variance between nodes.
    """

    item_mean: Tensor
    item_covariance: Tensor
    item_weights: Tensor
    item_spread: Tensor
    covariate_weights: Tensor
    user_spread: Tensor
    precision: Tensor
    node_variance: Tensor

    @property
    def rank(self) -> int:
        """Number of factors of an item."""
        return self.item_mean.shape[1] - 1

    def arrays(self) -> dict[str, Tensor]:
        """All arrays by name, to be sent."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Beliefs:
        """The beliefs among the arrays of a shared model."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def prior_user_variances(design: Design, rank: int) -> Tensor:
    """The variances of z_u that the users' moments are shrunk to, [t]."""
    first = design.raters.new_tensor([BIAS_VARIANCE] + [FACTOR_VARIANCE] * rank)
    return torch.cat([first, design.slope_variances])


def first_beliefs(design: Design, prior_features: int, rank: int, factors: Tensor, implicit: int = 0) -> Beliefs:
    """Beliefs before the first round.

    factors: standard normal [items, rank], so that the factors differ from each other.
    implicit: number of further covariates of users.
    """
    new = design.raters.new_zeros
    items, size = len(design.raters), 1 + rank
    user_variances = torch.cat(
        [
            new(1) + BIAS_VARIANCE,
            new(rank) + FIRST_FACTOR_VARIANCE,
            2 * design.slope_variances,
        ]
    )
    covariates = 1 + design.covariates.shape[1] + implicit + rank
    item_variances = torch.cat([new(1) + ITEM_BIAS_VARIANCE, new(rank) + FIRST_FACTOR_VARIANCE])
    return Beliefs(
        item_mean=torch.cat([new(items, 1), FIRST_FACTOR * factors], 1),
        item_covariance=pack(FIRST_ITEM_COVARIANCE * torch.eye(size).to(design.raters)).repeat(items, 1),
        item_weights=new(prior_features, size),
        item_spread=torch.diag(item_variances),
        covariate_weights=new(covariates, len(user_variances)),
        user_spread=torch.diag(user_variances),
        precision=new(1) + 1 / FIRST_NOISE_VARIANCE,
        node_variance=new(len(user_variances)),
    )
