"""Item biases from sums, shrunk to the mean, and a private bias for each user.

    r_ui = mean + b_i + b_u,   b_i = sum (r - mean) / (n_i + c),   b_u = sum (r - mean - b_i) / (n_u + c)

Source: Koren, Bell and Volinsky, Matrix factorization techniques for recommender systems, IEEE Computer 2009, with the
biases fitted one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method, Restorer
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.models.places import places_among

# Ratings of an item or a user that count for as much as the mean.
SHRINKAGE = 5.0


@dataclass(frozen=True)
class ItemBiases(Method):
    """The method.

    items: size of the catalogue.
    threshold: items with fewer raters are never summed, and keep a bias of 0.
    limits: the lowest and the highest rating that there is.
    """

    items: int
    threshold: int
    limits: tuple[float, float]

    def start(self) -> SharedModel:
        """Nothing is known; round 0 counts raters and finds the mean. See SumMethod."""
        return SharedModel({}, round=-1)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """In round 0 raters of each item and the sum of ratings; then sums of deviations of items that are summed."""
        for node in nodes:
            item, value = node.train.item, node.train.value.astype(np.float64)
            if not shared.arrays:
                raters = np.bincount(item, minlength=self.items).astype(np.float64)
                sums = {"raters": raters, "ratings": np.array([value.sum()]), "rows": np.array([float(len(value))])}
            else:
                deviations = np.bincount(item, value - float(shared.arrays["mean"]), minlength=self.items)
                sums = {"deviations": deviations * shared.arrays["summed"].numpy()}
            yield Contribution({name: torch.from_numpy(array) for name, array in sums.items()}), None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The mean; then the biases. How many have rated an item stays at the server. See SumMethod."""
        if not shared.arrays:
            raters = total.arrays["raters"]
            arrays = {
                "mean": total.arrays["ratings"] / total.arrays["rows"],
                "summed": (raters >= max(self.threshold, 1)).double(),
                "bias": torch.zeros(self.items, dtype=torch.float64),
            }
            return SharedModel(arrays, shared.round + 1, server={"raters": raters})
        bias = total.arrays["deviations"] / (shared.server["raters"] + SHRINKAGE)
        return SharedModel({**shared.arrays, "bias": bias}, shared.round + 1, server=shared.server)

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """See Method."""
        expected = self._expected(shared)[torch.from_numpy(ratings.item).long()]
        return expected.clamp(*self.limits)

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalBiases]:
        """See Method."""
        expected = self._expected(shared)
        return [fit_biases_of_users(expected, node.train, self.limits) for node in nodes]

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        expected = self._expected(shared)

        def restore(kept: Mapping[str, Tensor]) -> PersonalBiases:
            items, ratings = (kept[name].numpy() if kept else np.empty(0) for name in ("items", "ratings"))
            own = Ratings(np.zeros(len(items), np.int32), items.astype(np.int64), ratings)
            return fit_biases_of_users(expected, own, self.limits)

        return restore

    def _expected(self, shared: SharedModel) -> Tensor:
        return shared.arrays["mean"] + shared.arrays["bias"]


class PersonalBiases(PersonalModel):
    """The users of a node. expected [items]: without a user's bias; users [users]: ascending; own: their ratings."""

    def __init__(self, expected: Tensor, users: Tensor, bias: Tensor, own: Ratings, limits: tuple[float, float]):
        self._expected, self._users, self._bias, self._own, self._limits = expected, users, bias, own, limits

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        """See PersonalModel; a user without a bias of their own gets none."""
        place, known = places_among(self._users, user)
        bias = torch.zeros(len(user), dtype=torch.float64)
        bias[known] = self._bias[place[known]]
        return (self._expected[item] + bias).clamp(*self._limits)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """Each user's ratings, from which the bias follows; see PersonalModel."""
        for user in self._users.tolist():
            own = self._own.take(self._own.user == user)
            yield user, {"items": torch.from_numpy(own.item).long(), "ratings": torch.from_numpy(own.value).double()}


def fit_biases_of_users(expected: Tensor, own: Ratings, limits: tuple[float, float]) -> PersonalBiases:
    """The users' biases from their own ratings; expected [items]: without them."""
    users, place = np.unique(own.user, return_inverse=True)
    residuals = own.value - expected.numpy()[own.item]
    bias = np.bincount(place, residuals, len(users)) / (np.bincount(place, minlength=len(users)) + SHRINKAGE)
    return PersonalBiases(expected, torch.from_numpy(users).long(), torch.from_numpy(bias), own, limits)
