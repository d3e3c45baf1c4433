"""How good recommendation lists are: on the full catalogue, without the items a user has seen, and with no sampling.

For a user with relevant items R and the list of all unseen items, best first (hit_j: whether the j-th is in R):

    NDCG@10 = sum_{j<=10} hit_j / log2(j + 1)  over  sum_{j<=min(10, |R|)} 1 / log2(j + 1)
    Recall@20 = hits among the first 20 / |R|,  HR@10 = whether there is a hit among the first 10

Sampled negatives would change the order of methods (Krichene and Rendle, KDD 2020), so there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.errors import DataError
from hierfed.federated.contract import SharedModel
from hierfed.methods.ranking.scores import blend, exclude, rated_matrix, top

NDCG_LENGTH, RECALL_LENGTH, HIT_LENGTH = 10, 20, 10
# Scores are asked for so many users at once that they are about this many: 32 MB for each array of them.
SCORES_AT_ONCE = 2**22

Scorer = Callable[[Tensor], Tensor]
"""Scores of all items, float64 [users, items], for user numbers, int64 [users]."""


class Ranker(Protocol):
    """A method whose shared model scores items for a user by what that user has rated."""

    def scores(self, shared: SharedModel, seen: Tensor) -> Tensor:
        """Scores, float64 [users, items]; seen: which items each user has rated, 0 or 1, float64 [users, items]."""
        ...


def model_scorer(ranker: Ranker, shared: SharedModel, train: Ratings, items: int) -> Scorer:
    """The scores of a trained model; each user's come from that user's own train rows and the shared model alone."""
    # The last row is empty, and stands for whoever comes after the last user with train rows.
    nobody = 1 + int(train.user.max(initial=-1))
    rated = rated_matrix(train, nobody + 1, items)
    return lambda users: ranker.scores(shared, torch.from_numpy(rated[users.clamp(max=nobody).numpy()].toarray()))


def blended_scorer(scorers: Mapping[str, Scorer], weights: Mapping[str, float]) -> Scorer:
    """The named models' scores, standardised user by user and added with their weights; see methods.ranking."""
    return lambda users: blend({name: scorers[name](users) for name in weights}, weights)


@dataclass(frozen=True)
class UserRanking:
    """What each user's list is worth, float64 [users], from 0 to 1."""

    ndcg: Tensor
    recall: Tensor
    hit: Tensor


@dataclass(frozen=True)
class RankingMetrics:
    """Means over the users with at least one relevant item; users: how many these are."""

    users: int
    ndcg_at_10: float
    recall_at_20: float
    hit_rate_at_10: float


def judge_ranking(
    scorers: Mapping[str, Scorer], train: Ratings, test: Ratings, items: int, *, relevant_from: float = -math.inf
) -> dict[str, RankingMetrics]:
    """The metrics of each scorer. Seen are the items of the user's train rows, relevant those of its other test rows.

    items: size of the catalogue. relevant_from: the lowest rating, in stars, that makes a test item relevant; what was
    tested and disliked then counts as any other item.
    Raises DataError where no user has a relevant item, and ValueError where a score is NaN.
    """
    users = 1 + int(max(train.user.max(initial=-1), test.user.max(initial=-1)))
    seen = rated_matrix(train, users, items)
    relevant = rated_matrix(test.take(test.value >= relevant_from), users, items)
    relevant = relevant - relevant.multiply(seen)
    judged = np.flatnonzero(relevant.sum(1))
    if len(judged) == 0:
        raise DataError(
            "no user has a test item to recommend: use more test rows, or a lower bound of relevant ratings"
        )
    found: dict[str, list[UserRanking]] = {name: [] for name in scorers}
    chunk = max(1, SCORES_AT_ONCE // items)
    for begin in range(0, len(judged), chunk):
        some = judged[begin : begin + chunk]
        known, wanted = (torch.from_numpy(rows[some].toarray() > 0) for rows in (seen, relevant))
        for name, scorer in scorers.items():
            found[name].append(judge_lists(scorer(torch.from_numpy(some)), known, wanted))
    return {name: _mean(parts) for name, parts in found.items()}


def judge_lists(scores: Tensor, seen: Tensor, relevant: Tensor) -> UserRanking:
    """The metrics of each user's list; scores: [users, items]; seen, relevant: bool [users, items], without overlap.

    Every user has a relevant item.
    """
    lists = top(exclude(scores, seen), max(NDCG_LENGTH, RECALL_LENGTH, HIT_LENGTH))
    hits = relevant.gather(1, lists).double()
    wanted = relevant.sum(1)
    discount = 1 / torch.log2(torch.arange(2, NDCG_LENGTH + 2, dtype=torch.float64))
    ideal = discount.cumsum(0)[wanted.clamp(max=NDCG_LENGTH) - 1]
    first = hits[:, :NDCG_LENGTH]
    return UserRanking(
        ndcg=first @ discount[: first.shape[1]] / ideal,
        recall=hits[:, :RECALL_LENGTH].sum(1) / wanted,
        hit=hits[:, :HIT_LENGTH].amax(1),
    )


def _mean(parts: list[UserRanking]) -> RankingMetrics:
    ndcg, recall, hit = (torch.cat([getattr(part, name) for part in parts]) for name in ("ndcg", "recall", "hit"))
    return RankingMetrics(len(ndcg), float(ndcg.mean()), float(recall.mean()), float(hit.mean()))
