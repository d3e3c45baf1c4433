"""Recommendation lists by the expected ratings of the hierarchical model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from hierfed.federated.method import Scorer
from hierfed.methods.hierarchical.node_items import NodeItems
from hierfed.methods.hierarchical.personal import PersonalFactors, newcomer
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.models.places import places_among


def expected_ratings(models: Sequence[PersonalFactors | PiecewiseFactors]) -> Scorer:
    """Scores by expected rating, each user's with the items that the user's own node knows itself.

    A user whom no model knows gets a newcomer's scores, by the shared model alone.

    The models are looked at with the first scores, since lists in other orders need none.
    """

    @cache
    def everyone() -> tuple[Tensor, Tensor, Tensor, dict[int, NodeItems]]:
        """All users' numbers, ascending, their z_u, their nodes, and the items that each node knows itself.

        A node goes by its items' identity, 0 without any: users who are read from files share those of their node.
        """
        numbers, weights, nodes, items = [], [], [], dict[int, NodeItems]()
        for model in models:
            own, node = model.knowledge.at_node, 0
            if own is not None:
                node = id(own.numbers)
                items[node] = own
            numbers.append(model.users)
            weights.append(model.weights)
            nodes.append(torch.full_like(model.users, node))
        users, order = torch.cat(numbers).sort()
        return users, torch.cat(weights)[order], torch.cat(nodes)[order], items

    def score(users: Tensor) -> Tensor:
        numbers, weights, nodes, items = everyone()
        shared = models[0].knowledge.of_node(None)
        place, known = places_among(numbers, users)
        wanted = torch.where(known[:, None], weights[place], newcomer(shared).newcomer)
        scores = shared.expected(wanted)
        for node, own in items.items():
            here = (known & (nodes[place] == node)).nonzero()
            scores[here, own.numbers] = shared.expected_of(own, wanted[here[:, 0]])
        return scores

    return score
