"""Item biases from sums, shrunk to the mean, and a private bias for each user.

    r_ui = mean + b_i + b_u,   b_i = sum (r - mean) / (n_i + c),   b_u = sum (r - mean - b_i) / (n_u + c)

Source: Koren, Bell and Volinsky, Matrix factorization techniques for recommender systems, IEEE Computer 2009, with the
biases fitted one after the other.

What nodes are sent of b_i has a class in place of n_i, and a rounded mean in place of the item's: exact, these would
tell n_i. See hierfed.data.rater_classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.rater_classes import rounded_means, rounded_up
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import Check, between, counts, with_uncounted, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method, Restorer
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.models.places import numbers_of, places_among

# The mean counts for as much as so many ratings of an item or a user.
SHRINKAGE = 5.0


@dataclass(frozen=True)
class ItemBiases(Method):
    """Item biases from sums over nodes; each user adds a private bias.

        r_ui = mean + b_i + b_u,   b_i = sum_u (r - mean) / (n_i + c),   b_u = sum_i (r - mean - b_i) / (n_u + c)

    Source: Koren, Bell and Volinsky, 2009; see this module's docstring.

    items: size of the catalogue.
    threshold: items with fewer raters are never summed, and keep a bias of 0.
    limits: the lowest and the highest possible rating.
    """

    items: int
    threshold: int
    limits: tuple[float, float]

    def start(self) -> SharedModel:
        """An empty model. Round 0 counts raters and finds the mean. See SumMethod."""
        return SharedModel({}, round=-1)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """In round 0 each item's raters and the sum of ratings; then the shared items' sums of r - mean."""
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
        """The model with the mean; then with the biases. The numbers of raters stay at the server. See SumMethod."""
        if not shared.arrays:
            raters = total.arrays["raters"]
            arrays = {
                "mean": total.arrays["ratings"] / total.arrays["rows"],
                "summed": (raters >= max(self.threshold, 1)).double(),
                "bias": torch.zeros(self.items, dtype=torch.float64),
            }
            return SharedModel(arrays, shared.round + 1, server={"raters": raters})
        summed, mean, raters = shared.arrays["summed"], shared.arrays["mean"], shared.server["raters"]
        counted = raters.numpy()
        classes = rounded_up(counted, self.threshold)
        ratings = (total.arrays["deviations"] + raters * mean).numpy()
        means = torch.from_numpy(rounded_means(ratings, counted, classes, self.limits))
        edges = torch.from_numpy(classes)
        bias = summed * (means - mean) * edges / (edges + SHRINKAGE)
        return SharedModel({**shared.arrays, "bias": bias}, shared.round + 1, server=shared.server)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Sums lie between the lowest and the highest rating, times the number of ratings. See SumMethod."""
        low, high = self.limits
        if not shared.arrays:
            rows = within("rows", lambda sent: sent["raters"].sum()), within("raters", lambda sent: sent["rows"])
            ratings = between("ratings", lambda sent: low * sent["rows"], lambda sent: high * sent["rows"], high)
            return counts("raters", "rows"), *rows, ratings
        mean = shared.arrays["mean"]
        counted = shared.server.get("raters", torch.full((self.items,), torch.inf).double())
        # The users were not counted; they have at least one rating each.
        raters = shared.arrays["summed"] * with_uncounted(counted, counted.sum())
        most = torch.nan_to_num(raters, nan=0.0) * torch.maximum(high - mean, mean - low)
        return (within("deviations", lambda _: most),)

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
    """The users of a node.

    expected: ratings without a user's bias, [items].
    users: their numbers, ascending, [users].
    bias: of each user, [users].
    own: their ratings.
    limits: the lowest and the highest possible rating.
    """

    def __init__(self, expected: Tensor, users: Tensor, bias: Tensor, own: Ratings, limits: tuple[float, float]):
        self._expected, self._users, self._bias, self._own, self._limits = expected, users, bias, own, limits

    def predict(self, rows: Ratings) -> Tensor:
        """The expected rating plus the user's bias; an unknown user has none. See PersonalModel."""
        user, item = numbers_of(rows)
        place, known = places_among(self._users, user)
        bias = torch.zeros(len(user), dtype=torch.float64)
        bias[known] = self._bias[place[known]]
        return (self._expected[item] + bias).clamp(*self._limits)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """Each user's ratings, which determine the bias; see PersonalModel."""
        for user in self._users.tolist():
            own = self._own.take(self._own.user == user)
            yield user, {"items": torch.from_numpy(own.item).long(), "ratings": torch.from_numpy(own.value).double()}


def fit_biases_of_users(expected: Tensor, own: Ratings, limits: tuple[float, float]) -> PersonalBiases:
    """The users' biases from their own ratings.

    expected: ratings without users' biases, [items].
    """
    users, place = np.unique(own.user, return_inverse=True)
    residuals = own.value - expected.numpy()[own.item]
    bias = np.bincount(place, residuals, len(users)) / (np.bincount(place, minlength=len(users)) + SHRINKAGE)
    return PersonalBiases(expected, torch.from_numpy(users).long(), torch.from_numpy(bias), own, limits)
