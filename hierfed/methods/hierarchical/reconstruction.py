"""An attack: reconstruct a user's ratings from the sums of the hierarchical model.

If only one user of a sum has rated a film, the film's sum is that user's. With precision tau,

    item_precision = tau E (1, p)(1, p)',  item_pull = tau E (1, p)(y - b - w . f)

so the quotient of their first entries is the rating minus the user's own b + w . f. The server guesses these. On a node
with a single user it reads them: the row of `covariate_targets` of the constant covariate is that user's z = (b, p, w)
minus the node's mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors


def rated_once(ratings: Ratings) -> Ratings:
    """The ratings whose item no other user among them has rated."""
    return ratings.take(np.flatnonzero(np.bincount(ratings.item)[ratings.item] == 1))


def unknown_user(shared: SharedModel) -> Tensor:
    """The server's expectation of z = (b, p, w) of an unknown user, [t]."""
    return Beliefs.of(shared.arrays).covariate_weights[0]


def only_user(sums: Contribution) -> Tensor:
    """z = (b, p, w) of the only user of a node, [t], from the node's sums of round 1, before nodes have means."""
    return sums.arrays["covariate_targets"][0]


def reconstruct(
    method: HierarchicalFactors, shared: SharedModel, sums: Contribution, item: np.ndarray, user: Tensor
) -> np.ndarray:
    """The ratings of these items that the sums reveal, float64 [rows]; NaN for items that are not summed.

    For an item with several raters the result is the mean of their residuals, weighted by their precisions.

    shared: the model at the start of the round.
    sums: of a node, or of all nodes.
    user: the known or guessed z of the rater, [t].
    """
    rows, beliefs = torch.from_numpy(item).long(), Beliefs.of(shared.arrays)
    precision, pull = (
        method.design(shared).among_all(sums.arrays[name][:, :1])[rows, 0] for name in ("item_precision", "item_pull")
    )
    knowledge = method.knowledge(shared, krige=False)
    own = knowledge.vectors(rows)
    own[:, 1 : 1 + beliefs.rank] = 0  # p . q is part of the residual
    rating = knowledge.scale.centre + knowledge.scale.unit * (pull / precision + own @ user)
    known = rating.clamp(knowledge.scale.lowest, knowledge.scale.highest)
    found: np.ndarray = torch.where(precision > 0, known, torch.nan).numpy()
    return found
