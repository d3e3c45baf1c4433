"""The worth of a new user's first ratings: the shared model stays, the user personalises with k ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, concatenated
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.models.baselines import fit_biases
from hierfed.models.metrics import rating_errors
from hierfed.results import NewUserRecord

FIRST_RATINGS = (0, 1, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class TrainedMethod:
    """A method and the shared model that it has learned."""

    method: Method
    shared: SharedModel

    def rmse(self, own: Ratings, held_out: Ratings) -> float:
        """RMSE on held-out rows of users who have these ratings of their own."""
        if len(own):
            (model,) = self.method.personalise(self.shared, [Node(0, "new users", own, held_out)], [None])
            predicted = model.predict(held_out.untimed)
        else:
            predicted = self.method.predict(self.shared, held_out)
        return rating_errors(predicted.numpy(), held_out.value, held_out.user).rmse


def new_user_curve(
    ours: TrainedMethod,
    network: TrainedMethod,
    federated: Ratings,
    own: Ratings,
    held_out: Ratings,
    *,
    users: int,
    items: int,
    rng: np.random.Generator,
    first_ratings: Sequence[int] = FIRST_RATINGS,
) -> list[NewUserRecord]:
    """RMSE of new users with their first k ratings, in an order drawn once; users with fewer use all of theirs.

    federated: the rows that the shared models and the item biases were learned from.
    own, held_out: the new users' rows.
    """
    order = rng.permutation(len(own))
    order = order[np.argsort(own.user[order], kind="stable")]
    counts = np.bincount(own.user)
    rank = np.empty(len(own), np.int64)
    rank[order] = np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
    records = []
    for count in first_ratings:
        first = own.take(np.flatnonzero(rank < count))
        biases = fit_biases(concatenated([federated, first]), users, items).predict(held_out)
        records.append(
            NewUserRecord(
                ratings=count,
                model=ours.rmse(first, held_out),
                biases=rating_errors(biases, held_out.value, held_out.user).rmse,
                network=network.rmse(first, held_out),
            )
        )
    return records
