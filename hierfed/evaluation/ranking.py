"""The quality of recommendation lists: on the full catalogue, without the items a user has seen, without sampling.

For a user with relevant items R and the list of all unseen items, best first (hit_j: whether the j-th is in R):

    NDCG@10 = sum_{j<=10} hit_j / log2(j + 1)  over  sum_{j<=min(10, |R|)} 1 / log2(j + 1)
    Recall@20 = hits among the first 20 / |R|,  HR@10 = whether there is a hit among the first 10

Sampled negatives change the order of methods (Krichene and Rendle, KDD 2020). So they are an extra, under protocol loo
alone, for comparison with what others print: each held-out item among SAMPLED others that the user has never rated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.errors import DataError
from hierfed.federated.method import Scorer
from hierfed.models.lists import exclude, rated_matrix, top
from hierfed.randomness import generator
from hierfed.results import RankingRecord
from hierfed.settings import Settings

NDCG_LENGTH, RECALL_LENGTH, HIT_LENGTH = 10, 20, 10
SAMPLED = 99
# Scores are asked for so many users at once that they are about this many: 32 MB for each array of them.
SCORES_AT_ONCE = 2**22


@dataclass(frozen=True)
class UserRanking:
    """The metrics of each user's list, float64 [users], from 0 to 1."""

    ndcg: Tensor
    recall: Tensor
    hit: Tensor


@dataclass(frozen=True)
class RankingMetrics:
    """Means over the users with at least one relevant item.

    users: how many these are.
    sampled: the same among sampled items; None where none were.
    """

    users: int
    ndcg_at_10: float
    recall_at_20: float
    hit_rate_at_10: float
    sampled: RankingMetrics | None = None


def judge_ranking(
    scorers: Mapping[str, Scorer],
    train: Ratings,
    test: Ratings,
    items: int,
    *,
    relevant_from: float = -math.inf,
    sampling_seed: int | None = None,
    most_scores: int | None = None,
) -> dict[str, RankingMetrics]:
    """The metrics of each scorer. Seen are the items of the user's train rows, relevant those of its other test rows.

    items: size of the catalogue. relevant_from: the lowest rating, in stars, that makes a test item relevant; a
    disliked test item then counts as any other item. sampling_seed: draws SAMPLED items for each user; None for none.
    most_scores: of so many users, drawn at random, that users times items are no more; None for all users.
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
    if most_scores is not None and len(judged) * items > most_scores:
        rng = generator(0, 0, 0, "users whose lists are judged")
        judged = np.sort(rng.choice(judged, max(most_scores // items, 1), replace=False))
    found: dict[str, list[UserRanking]] = {name: [] for name in scorers}
    sampled: dict[str, list[UserRanking]] = {name: [] for name in scorers}
    chunk = max(1, SCORES_AT_ONCE // items)
    for begin in range(0, len(judged), chunk):
        some = judged[begin : begin + chunk]
        known, wanted = (torch.from_numpy(rows[some].toarray() > 0) for rows in (seen, relevant))
        others = None if sampling_seed is None else sampled_items(known | wanted, some, sampling_seed)
        for name, scorer in scorers.items():
            scores = scorer(torch.from_numpy(some))
            found[name].append(judge_lists(scores, known, wanted))
            if others is not None:
                sampled[name].append(judge_lists(scores, ~(others | wanted), wanted))
    return {
        name: replace(_mean(parts), sampled=_mean(sampled[name]) if sampled[name] else None)
        for name, parts in found.items()
    }


def sampled_items(rated: Tensor, users: np.ndarray, seed: int) -> Tensor:
    """SAMPLED items of each user, uniform over those that the user has never rated, or all of them: bool as `rated`.

    rated: the items of the user's train and test rows, bool [users, items].
    users: their numbers, which draw the same items in every call.
    """
    chosen = torch.zeros_like(rated)
    for row, user in enumerate(users.tolist()):
        never = np.flatnonzero(~rated[row].numpy())
        chosen[row, generator(seed, 0, user, "sampled items").permutation(never)[:SAMPLED]] = True
    return chosen


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


def sampling_seed(settings: Settings) -> int | None:
    """The seed of the sampled items of lists; None where the protocol's lists rank the full catalogue alone."""
    return settings.seed if settings.split.protocol == "loo" else None


def lists_of(settings: Settings, note: Callable[[str], None]) -> dict[str, Any]:
    """What the settings say of lists, and who is told of it, as arguments of `judge_scorers`."""
    return {
        "sampling_seed": sampling_seed(settings),
        "relevant_from": () if settings.data.implicit else settings.ranking.relevant_from,
        "most_scores": settings.ranking.most_scores,
        "note": note,
    }


def judge_scorers(
    scorers: Mapping[str, Scorer],
    own: Ratings,
    held_out: Ratings,
    items: int,
    sampling_seed: int | None = None,
    relevant_from: float | tuple[()] = (),
    most_scores: int | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> list[RankingRecord]:
    """The record of each scorer's lists; none where there are no scorers. See judge_ranking.

    relevant_from: empty if every held-out rating is relevant.
    note: is told where not all users' lists are judged.
    """
    if not scorers or not len(held_out):
        return []
    lowest = -math.inf if isinstance(relevant_from, tuple) else relevant_from
    judged = judge_ranking(
        scorers,
        own,
        held_out,
        items,
        relevant_from=lowest,
        sampling_seed=sampling_seed,
        most_scores=most_scores,
    )
    users = next(iter(judged.values())).users
    if most_scores is not None and (users + 1) * items > most_scores:
        note(f"lists of {users:,} users are judged, drawn at random, so that no more than {most_scores:,} are scored")
    return [
        RankingRecord(
            model=name,
            users=found.users,
            ndcg_at_10=found.ndcg_at_10,
            recall_at_20=found.recall_at_20,
            hr_at_10=found.hit_rate_at_10,
            sampled_ndcg_at_10=found.sampled.ndcg_at_10 if found.sampled else math.nan,
            sampled_hr_at_10=found.sampled.hit_rate_at_10 if found.sampled else math.nan,
        )
        for name, found in judged.items()
    ]


def figures_of(records: Sequence[RankingRecord], recommends: str) -> dict[str, float]:
    """The figures of the model that recommends, by their usual names; empty where it was not judged."""
    for record in records:
        if record.model == recommends:
            found = {"ndcg@10": record.ndcg_at_10, "recall@20": record.recall_at_20, "hr@10": record.hr_at_10}
            sampled = {"sampled_ndcg@10": record.sampled_ndcg_at_10, "sampled_hr@10": record.sampled_hr_at_10}
            return found | {name: value for name, value in sampled.items() if math.isfinite(value)}
    return {}
