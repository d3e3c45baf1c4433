"""A user's own model, fitted again to ratings that have changed; the shared model stays, and nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from hierfed.methods.hierarchical.personal import PersonalFactors, observed


def without_former_sums(model: PersonalFactors, before: Mapping[str, Tensor]) -> PersonalFactors:
    """The model of one user with the items' means that the user's own file holds, which the own sums are taken out of.

    model: fitted as if the user had sent nothing.
    before: the tensors of the user's own file. Items that it lacks keep the shared model's means.
    """
    own, rank = model.own, model.knowledge.beliefs.rank
    means = torch.cat([model.knowledge.bias_in(own.vectors), own.vectors[:, 1 : 1 + rank]], 1)
    same = own.items[:, None] == before["items"]
    kept = same.any(1)
    means[kept] = before["item_mean"][same.int().argmax(1)[kept]]
    prior_mean = model.prior_mean.expand(len(own.items), -1)
    fitted = observed(model.knowledge, own.counts, own.items, own.ratings, means, prior_mean, own.noise)
    return replace(model, own=replace(fitted, times=own.times))
