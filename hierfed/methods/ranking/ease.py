"""EASE (Steck, WWW 2019, arXiv:1905.03375): items recommend items, learned from one sum of co-rating counts.

    G = sum_u s_u s_u',  P = (G + K + penalty I)^-1,  B = I - P diag(1 / P_jj),  scores of a user = s_u B

s_u marks the items that user u has rated, 0 or 1. K, if it is used, encodes public likeness, as if a share of the
raters had rated similar items together: K_ij = k(i, j) sqrt(n_i n_j). It costs no message and helps for items with few
ratings. The entries of G are counts, exact in float64 up to 2^53. So any division of the users into nodes gives the
same model bit for bit, if a user's rows lie together on one node. B is made of them in single precision, which takes
half of the time, the memory, the disk and the bytes to nodes (`benchmarks/scaling/single_ease.py`).

From B, whoever knows the penalty and k can compute G, whose diagonal is the numbers of raters. So the server moves
these into public classes first, as if c_i users had rated item i where n_i have (hierfed.data.rater_classes),

    G_ij -> G_ij sqrt(c_i c_j / (n_i n_j)),  K_ij = k(i, j) sqrt(c_i c_j)

and rounds B, through which G's whole numbers would show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import spotri
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node, Nodes
from hierfed.data.rater_classes import in_order, next_edge
from hierfed.errors import HierfedError
from hierfed.federated.checks import Check, Sent, counts, with_uncounted, within
from hierfed.federated.contract import WORDS, Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState
from hierfed.federated.steps import Limit
from hierfed.methods.hierarchical.cohort import cohort_of
from hierfed.methods.ranking.scores import catalogue_scores, known_items, known_raters, own_users_matrix, users_matrix
from hierfed.models.kernel import ItemKernel
from hierfed.models.symmetric import packed_size

# Matrices of items by items that the server holds at most while it inverts one, sums of nodes included.
COPIES = 3
# Rows of the matrix of likeness that are made at once.
ROWS = 512
# Columns of the weights that are multiplied at once where each row of them is read so many times or more.
TILE, MANY = 128, 2
TITLE_LIKENESS, CONTENT_LIKENESS = 0.5, 0.3
# The step of the weights. With half of it, whole numbers in G told raters within their class better than guessing.
STEP = 2.0**-9


@dataclass(frozen=True)
class Ease:
    """EASE, finished after round 1; see SumMethod. The shared model's arrays are raters and weights.

        G = sum_u s_u s_u',  P = (G + K + penalty I)^-1,  B = I - P diag(1 / P_jj),  scores of a user = s_u B

    raters [items]: each item's class of raters, see hierfed.data.rater_classes; 0 for items with fewer than
        least_raters, which are not sent again.
    popularity [items]: the same in the order of the exact numbers; see hierfed.data.rater_classes.
    weights [k, k]: B of the k other items, ascending, float32; row: the rated item, column: the scored item.

    Source: Steck, WWW 2019, arXiv:1905.03375; see this module's docstring.

    items: size of the catalogue.
    penalty: above 0, in raters.
    least_raters: at least 1.
    likeness: k; None for no K.
    memory_gigabytes: most memory of all matrices of items by items while B is made.
    """

    items: int
    penalty: float = 250.0
    least_raters: int = 4
    likeness: ItemKernel | None = None
    memory_gigabytes: float = 10.0
    exact_sums: ClassVar[bool] = True

    def start(self) -> SharedModel:
        """An empty model; round 0 counts the raters. See SumMethod."""
        return SharedModel({}, round=-1)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """The raters of each item; then the lower triangle of G, row by row, of the items with enough raters."""
        for node in nodes:
            yield self._sums(shared, own_users_matrix(node.train, self.items)), None

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """The same counts, of all users at once; see PooledMethod."""
        return self._sums(shared, users_matrix(cohort_of(nodes), self.items)), private

    def _sums(self, shared: SharedModel, rated: csr_array) -> Contribution:
        if not shared.arrays:
            return Contribution({"raters": torch.from_numpy(rated.sum(0))})
        known = known_items(shared.arrays["raters"]).numpy()
        return Contribution({"co_raters": _co_raters(rated[:, known])})

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The classes above the threshold, then B. Raises HierfedError if G would not fit in memory. See SumMethod."""
        if not shared.arrays:
            raters = known_raters(total.arrays["raters"], self.least_raters)
            self._check_size(raters)
            popular = in_order(total.arrays["raters"].numpy(), raters.numpy())
            return SharedModel({"raters": raters, "popularity": torch.from_numpy(popular)}, shared.round + 1)
        weights = weights_of(self.co_raters(shared, total), self.penalty)
        return SharedModel({**shared.arrays, "weights": weights}, shared.round + 1)

    def co_raters(self, shared: SharedModel, total: Contribution) -> Tensor:
        """G + K of the items with enough raters, in classes of raters, float32 [k, k]."""
        known = known_items(shared.arrays["raters"])
        found = _unpacked(total.arrays["co_raters"], len(known))
        # Of those in this sum: where a node was lost in between, they are fewer than were counted before.
        own = found.diagonal().double().clamp_min(1)
        factor = torch.from_numpy(next_edge(own.numpy())).div_(own).sqrt_().to(found.dtype)
        found.mul_(factor[:, None]).mul_(factor)
        if self.likeness is not None:
            root = shared.arrays["raters"][known].sqrt()
            for rows in torch.split(torch.arange(len(known)), ROWS):
                likeness = self.likeness.between(known[None, rows], known[None])[0]
                found[rows] += likeness.mul_(root[rows, None]).mul_(root)
        return found

    def total_limits(self, shared: SharedModel) -> Mapping[str, Limit]:
        """Words in which the counts stay whole: no pair has more raters than an item. See Limited."""
        if not shared.arrays:
            return {}
        most = float(shared.arrays["raters"].max())
        bits = next((bits for bits in sorted(WORDS.values()) if most < 2 ** (bits - 1)), None)
        return {} if bits is None else {"co_raters": Limit(torch.tensor(2.0 ** (bits - 1), dtype=torch.float64), bits)}

    def reduced(self, contribution: Contribution, shared: SharedModel) -> Contribution:
        """The counts themselves; see Limited."""
        return contribution

    def restored(self, total: Contribution, shared: SharedModel) -> Contribution:
        """The counts themselves; see Limited."""
        return total

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Counts; no pair of items has more raters than either item. See SumMethod."""
        if not shared.arrays:
            return (counts("raters"),)
        raters = shared.arrays["raters"][known_items(shared.arrays["raters"])]
        row, column = torch.tril_indices(len(raters), len(raters))
        # The users were not counted; they have at least one rating each.
        raters = with_uncounted(raters, raters.sum())
        most = torch.minimum(raters[row], raters[column])

        def pairs(sent: Sent) -> Tensor:
            """The raters of each pair's two items among those who are counted, which the diagonal holds."""
            own = sent["co_raters"][torch.arange(1, len(raters) + 1).cumsum(0) - 1]
            return torch.minimum(most, torch.minimum(own[row], own[column]))

        return counts("co_raters"), within("co_raters", pairs)

    def scores(self, shared: SharedModel, seen: csr_array) -> Tensor:
        """Scores of all items, float64 [users, items], 0 for items with too few raters.

        seen: float64 [users, items], 1 for the items that each user has rated, else 0. It is private, so a node calls
        this for its own users.
        """
        known, weights = known_items(shared.arrays["raters"]), shared.arrays["weights"].numpy()
        scores = torch.from_numpy(_times(seen[:, known.numpy()].astype(weights.dtype), weights))
        return catalogue_scores(scores, known, seen.shape[1])

    def _check_size(self, raters: Tensor) -> None:
        known, most = len(known_items(raters)), most_items(self.memory_gigabytes)
        if known > most:
            raise HierfedError(
                f"Ease would need matrices of {known:,} x {known:,} items, above its bound of {most:,}: "
                f"raise least_raters from {self.least_raters} to {least_that_fits(raters, most)}, or memory_gigabytes"
            )


def most_items(memory_gigabytes: float) -> int:
    """The items whose matrices fit in so much memory."""
    return math.isqrt(int(memory_gigabytes * 1e9 / (8 * COPIES)))


def least_that_fits(raters: Tensor, most: int) -> int:
    """The least number of raters that no more than `most` items have; 1 if no item is too many. raters: [items]."""
    return 1 if len(raters) <= most else int(raters.sort(descending=True).values[most]) + 1


@dataclass(frozen=True)
class CoRaters(Ease):
    """The sums of EASE without its weights: the shared model's arrays are raters and co_raters, G + K.

    So models of several penalties are made of one training; see `with_penalty`. The messages are those of Ease.
    """

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The classes above the threshold, then G + K. See Ease."""
        if not shared.arrays:
            return super().combine(shared, total)
        return SharedModel({**shared.arrays, "co_raters": self.co_raters(shared, total)}, shared.round + 1)


def with_penalty(trained: SharedModel, penalty: float) -> SharedModel:
    """The model of Ease with this penalty, from the finished one of CoRaters."""
    arrays = dict(trained.arrays)
    weights = weights_of(arrays.pop("co_raters").clone(), penalty)
    return SharedModel({**arrays, "weights": weights}, trained.round)


def weights_of(co_raters: Tensor, penalty: float) -> Tensor:
    """B of G + K, in steps of STEP, float32 [k, k]; G + K is written over.

    Raises HierfedError where the penalty is too small for it.
    """
    co_raters.diagonal().add_(penalty)
    # LAPACK reads columns: the transpose has them in place. SciPy's LAPACK inverts the factor in half of torch's time.
    failed = torch.empty((), dtype=torch.int32)
    factor, _ = torch.linalg.cholesky_ex(co_raters.mT, out=(co_raters.mT, failed))
    if failed:
        raise HierfedError(f"ranking.ease_penalty {penalty:g}: too small to solve for the weights of lists: raise it")
    half, _ = spotri(factor.numpy(), lower=1, overwrite_c=1)
    inverse = torch.from_numpy(half)
    diagonal = inverse.diagonal().clone()
    weights = inverse + inverse.T
    weights /= -diagonal
    return weights.div_(STEP).round_().mul_(STEP).fill_diagonal_(0.0)


def public_likeness(content: Content) -> ItemKernel:
    """k of items with similar titles, years, genres and public votes. Its weights were chosen on validation rows."""
    where = [content.year, 0.5 * content.votes, 0.5 * content.vote]
    coordinates = torch.from_numpy(np.column_stack([*where, content.genres]))
    return ItemKernel(((CONTENT_LIKENESS, coordinates),), content.titles, TITLE_LIKENESS)


def _times(rated: csr_array, weights: np.ndarray) -> np.ndarray:
    """rated @ weights. Users rate few of the items, so most rows of the weights need not be read.

    Of many users, some columns at a time, which then stay in a core's cache: half of the time, and the same bits.
    """
    if rated.nnz < MANY * len(weights):
        product: np.ndarray = rated @ weights
        return product
    product = np.empty((rated.shape[0], weights.shape[1]), weights.dtype)
    for begin in range(0, weights.shape[1], TILE):
        product[:, begin : begin + TILE] = rated @ np.ascontiguousarray(weights[:, begin : begin + TILE])
    return product


def _co_raters(rated: csr_array) -> Tensor:
    """The number of users who have rated both items of each pair: the lower triangle, row by row, of [items, items]."""
    raters, size = rated.T.tocsr(), rated.shape[1]
    packed = np.empty(packed_size(size))
    for first in range(0, size, ROWS):
        together = (raters[first : first + ROWS] @ rated).toarray()
        for row, counted in enumerate(together, first):
            begin = row * (row + 1) // 2
            packed[begin : begin + row + 1] = counted[: row + 1]
    return torch.from_numpy(packed)


def _unpacked(packed: Tensor, size: int) -> Tensor:
    """The whole symmetric matrix, filled row by row: indices of all entries would take more memory than it does."""
    whole, values, begin = np.empty((size, size), np.float32), packed.numpy(), 0
    for row in range(size):
        whole[row, : row + 1] = values[begin : begin + row + 1]
        begin += row + 1
    for first in range(0, size, ROWS):
        rows = slice(first, first + ROWS)
        whole[:first, rows] = whole[rows, :first].T
        square = np.tril(whole[rows, rows])
        whole[rows, rows] = square + np.tril(square, -1).T
    return torch.from_numpy(whole)
