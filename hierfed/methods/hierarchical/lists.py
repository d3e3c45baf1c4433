"""Recommendation lists by the expected ratings of the hierarchical model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from hierfed.federated.method import Scorer
from hierfed.methods.hierarchical.personal import PersonalFactors, newcomer
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.models.places import places_among


def expected_ratings(models: Sequence[PersonalFactors | PiecewiseFactors]) -> Scorer:
    """Scores by expected rating. A user whom no model knows gets a newcomer's scores.

    The models are looked at with the first scores, since lists in other orders need none.
    """

    @cache
    def everyone() -> tuple[Tensor, Tensor]:
        pairs = [(model.users, model.weights) for model in models]
        numbers, order = torch.cat([users for users, _ in pairs]).sort()
        return numbers, torch.cat([weights for _, weights in pairs])[order]

    def score(users: Tensor) -> Tensor:
        knowledge, (numbers, weights) = models[0].knowledge, everyone()
        place, known = places_among(numbers, users)
        return knowledge.expected(torch.where(known[:, None], weights[place], newcomer(knowledge).newcomer))

    return score
