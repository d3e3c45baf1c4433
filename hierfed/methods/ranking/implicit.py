"""Implicit matrix factorisation by alternating least squares (Hu, Koren and Volinsky, ICDM 2008), from sums.

    loss = sum_{rated u, i} (1 - x_u . y_i)^2 + a0 sum_{u, i} (x_u . y_i)^2 + sum_u w_u |x_u|^2 + sum_i w_i |y_i|^2

up to a constant; a rated pair is in both sums. The penalties w_u = penalty (n_u + a0 items) and w_i = penalty (n_i + a0
users) grow with the numbers of ratings (Rendle, Krichene, Zhang and Koren, RecSys 2022, arXiv:2110.14037). Each half
step solves one ridge regression per user or item,

    x_u = [sum_{i rated by u} y_i y_i' + a0 Y'Y + w_u I]^-1 sum_{i rated by u} y_i,

and likewise y_i. The nodes solve the first in private; the server solves the second from sums over users. So any
division of the users into nodes gives the factors of the pooled ratings, if a user's rows lie together on one node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.federation import Node, Nodes
from hierfed.federated.checks import Check, counts, within
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState
from hierfed.methods.hierarchical.checks import vector_checks
from hierfed.methods.hierarchical.cohort import cohort_of
from hierfed.methods.ranking.scores import catalogue_scores, known_items, known_raters, own_users_matrix, users_matrix
from hierfed.models.symmetric import outer_packed, ridges
from hierfed.models.threads import in_order
from hierfed.randomness import generator

FIRST_SCALE = 0.1


@dataclass(frozen=True)
class RatedByUsers(PrivateState):
    """The state of a node: the known items that its users have rated, ones in CSR [users, known items]."""

    rated: csr_array


@dataclass(frozen=True)
class ImplicitFactors:
    """Implicit factors by alternating least squares; see SumMethod.

    The shared model's arrays are raters, users and factors.

        loss = sum_{rated u, i} (1 - x_u . y_i)^2 + a0 sum_{u, i} (x_u . y_i)^2 + sum_u w_u |x_u|^2 + sum_i w_i |y_i|^2

    raters [items]: each item's class of raters, see hierfed.data.rater_classes; 0 for items with fewer than
        least_raters, which are not sent again.
    users [1]: the number of users. factors [k, rank]: y of the k other items, ascending.

    Source: Hu, Koren and Volinsky, ICDM 2008; see this module's docstring.

    items: size of the catalogue.
    unobserved: a0.
    penalty: above 0.
    least_raters: at least 1.
    begun: a model of some rounds, to go on from; None for a new one.
    threads: number of threads that share the nodes.
    """

    items: int
    seed: int
    rank: int = 48
    unobserved: float = 0.15
    penalty: float = 0.02
    least_raters: int = 4
    begun: SharedModel | None = field(default=None, compare=False)
    threads: int = field(default=1, compare=False)

    def start(self) -> SharedModel:
        """An empty model; round 0 counts the raters and the users. See SumMethod."""
        return SharedModel({}, round=-1) if self.begun is None else self.begun

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, RatedByUsers | None]]:
        """Raters and users; then sums over the node's users: x x' (packed) and x by item, and x x' over all."""
        if shared.arrays:
            _products(shared)  # Made before threads ask for it.

        def work(pair: tuple[Node, PrivateState | None]) -> tuple[Contribution, RatedByUsers | None]:
            node, kept = pair
            if isinstance(kept, RatedByUsers):
                return self._sums(shared, kept.rated), kept
            rated = self._known(shared, own_users_matrix(node.train, self.items))
            return self._sums(shared, rated), RatedByUsers(rated) if shared.arrays else None

        yield from in_order(work, zip(nodes, private, strict=True), min(self.threads, len(nodes)))

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """The same sums of all users at once, equal up to rounding; see PooledMethod."""
        rated = self._known(shared, users_matrix(cohort_of(nodes), self.items))
        return self._sums(shared, rated), private

    def _known(self, shared: SharedModel, rated: csr_array) -> csr_array:
        return rated[:, known_items(shared.arrays["raters"]).numpy()] if shared.arrays else rated

    def _sums(self, shared: SharedModel, rated: csr_array) -> Contribution:
        if not shared.arrays:
            users = torch.tensor([rated.shape[0]], dtype=torch.float64)
            return Contribution({"raters": torch.from_numpy(rated.sum(0)), "users": users})
        factors = shared.arrays["factors"]
        found = self._solve(rated, factors, _products(shared), factors.T @ factors)
        sums = {
            "products": _times(rated.T, outer_packed(found)),
            "factors": _times(rated.T, found),
            "all_products": found.T @ found,
        }
        return Contribution(sums)

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The classes above the threshold, with small random factors; then the items' half step."""
        if not shared.arrays:
            raters = known_raters(total.arrays["raters"], self.least_raters)
            draws = generator(self.seed, 0, 0, "implicit factors").standard_normal((self.items, self.rank))
            factors = torch.from_numpy(draws)[known_items(raters)] * (FIRST_SCALE / math.sqrt(self.rank))
            arrays = {"raters": raters, "users": total.arrays["users"], "factors": factors}
            return SharedModel(arrays, shared.round + 1)
        raters = shared.arrays["raters"]
        weights = self.penalty * (raters[known_items(raters)] + self.unobserved * shared.arrays["users"])
        common = self.unobserved * total.arrays["all_products"]
        factors = ridges(total.arrays["products"], total.arrays["factors"], common, weights, self.threads)
        return SharedModel({**shared.arrays, "factors": factors}, shared.round + 1)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Counts; then sums over users' vectors x, of which penalty |x|^2 <= 1. See SumMethod."""
        if not shared.arrays:
            return counts("raters", "users"), within("raters", lambda sent: sent["users"])
        raters = shared.arrays["raters"]
        names = ("products", "factors", "all_products")
        return vector_checks(names, raters[known_items(raters)], shared.arrays["users"], 1 / self.penalty)

    def scores(self, shared: SharedModel, seen: csr_array) -> Tensor:
        """x_u . y_i of all items, float64 [users, items].

        It is 0 for items with too few raters, and for users who have rated only such items.

        seen: float64 [users, items], 1 for the items that each user has rated, else 0. It is private, so a node calls
        this for its own users. They need not have taken part in the rounds.
        """
        known, factors = known_items(shared.arrays["raters"]), shared.arrays["factors"]
        rated = seen[:, known.numpy()]
        square = shared.once("square", lambda: factors.T @ factors)
        if rated.nnz >= len(known):
            users = self._solve(rated, factors, _products(shared), square)
        else:
            # Few users have rated few of the items, and no other item's products are needed.
            used, place = np.unique(rated.indices, return_inverse=True)
            rated = csr_array((rated.data, place, rated.indptr), shape=(seen.shape[0], len(used)))
            users = self._solve(rated, factors, outer_packed(factors[used]), square, used)
        return catalogue_scores(users @ factors.T, known, seen.shape[1])

    def _solve(
        self,
        rated: csr_array,
        factors: Tensor,
        products: Tensor,
        square: Tensor,
        used: np.ndarray | slice = slice(None),
    ) -> Tensor:
        """The users' half step, x [users, rank].

        products: y y' of each item, packed. square: Y'Y, [rank, rank].
        used: the items of the columns of `rated` and the rows of `products`.
        """
        counts = torch.from_numpy(rated.sum(1))
        weights = self.penalty * (counts + self.unobserved * len(factors))
        return ridges(_times(rated, products), _times(rated, factors[used]), self.unobserved * square, weights)


def _products(shared: SharedModel) -> Tensor:
    """y y' of each item, packed, made once for all users."""
    return shared.once("products", lambda: outer_packed(shared.arrays["factors"]))


def _times(sparse: csr_array, dense: Tensor) -> Tensor:
    return torch.from_numpy(sparse @ dense.numpy())
