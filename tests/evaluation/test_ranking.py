"""Metrics of lists against examples by hand, a loop over users, and scikit-learn's NDCG."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.errors import DataError
from hierfed.evaluation import ranking
from hierfed.evaluation.ranking import (
    RankingMetrics,
    figures_of,
    judge_lists,
    judge_ranking,
    judge_scorers,
    sampled_items,
)
from hierfed.results import RankingRecord

ITEMS = 40


def rows(pairs: list[tuple[int, int, float]]) -> Ratings:
    user, item, value = (np.array(column) for column in zip(*pairs, strict=True))
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


def random_rows(seed: int, users: int) -> tuple[Ratings, Ratings]:
    """Train and test rows of the same users, no pair twice."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(users * ITEMS)[: users * 15]
    found = Ratings(
        (places // ITEMS).astype(np.int32),
        (places % ITEMS).astype(np.int32),
        (rng.integers(1, 11, len(places)) / 2).astype(np.float32),
    )
    first = np.arange(len(places)) < users * 9
    return found.take(first), found.take(~first)


def by_hand(scores: np.ndarray, train: Ratings, test: Ratings) -> list[float]:
    """Means over users of NDCG@10, Recall@20 and HR@10, list by list."""
    found = []
    for user in np.unique(test.user):
        seen, relevant = set(train.item[train.user == user]), set(test.item[test.user == user])
        unseen = [item for item in np.argsort(-scores[user], kind="stable") if item not in seen]
        hits = [item in relevant for item in unseen]
        gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:10]) if hit)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(relevant))))
        found.append([gain / ideal, sum(hits[:20]) / len(relevant), float(any(hits[:10]))])
    return np.mean(found, axis=0).tolist()


def values_of(metrics: RankingMetrics) -> list[float]:
    return [metrics.ndcg_at_10, metrics.recall_at_20, metrics.hit_rate_at_10]


def test_a_list_worked_out_by_hand():
    # Item 0 is best and seen; so the list begins 1, 2, 3, ... and the relevant 2, 12 and 25 are 2nd, 12th and 25th.
    scores = -torch.arange(30, dtype=torch.float64)
    train, test = rows([(0, 0, 5.0)]), rows([(0, 2, 3.0), (0, 12, 4.0), (0, 25, 1.0)])
    metrics = judge_ranking({"own": lambda users: scores.expand(len(users), -1)}, train, test, 30)["own"]
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert metrics.users == 1
    assert values_of(metrics) == pytest.approx([1 / math.log2(3) / ideal, 2 / 3, 1.0], rel=1e-15)


def test_no_more_than_ten_relevant_items_are_asked_of_ten_places():
    scores = -torch.arange(30, dtype=torch.float64)[None]
    relevant = torch.arange(30)[None] < 16
    found = judge_lists(scores, torch.zeros(1, 30, dtype=torch.bool), relevant)
    assert [found.ndcg.item(), found.recall.item(), found.hit.item()] == pytest.approx([1, 1, 1], rel=1e-15)
    late = judge_lists(-scores, torch.zeros(1, 30, dtype=torch.bool), relevant)
    assert [late.ndcg.item(), late.recall.item(), late.hit.item()] == [0, 6 / 16, 0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), users=st.integers(1, 9), levels=st.sampled_from([3, 10**6]))
def test_metrics_equal_a_loop_over_users_with_ties_and_without(seed, users, levels):
    train, test = random_rows(seed, users)
    scores = np.random.default_rng(seed + 1).integers(levels, size=(users, ITEMS)).astype(np.float64)
    metrics = judge_ranking({"own": lambda some: torch.from_numpy(scores)[some]}, train, test, ITEMS)["own"]
    assert values_of(metrics) == pytest.approx(by_hand(scores, train, test), rel=1e-12)
    assert metrics.users == len(np.unique(test.user))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ndcg_is_scikit_learns_where_nothing_was_seen(seed):
    rng = np.random.default_rng(seed)
    scores, relevant = rng.permuted(np.tile(np.arange(ITEMS, dtype=np.float64), (5, 1)), axis=1), rng.random((5, ITEMS))
    relevant = relevant > rng.uniform(0.3, 0.97)
    relevant[:, 0] = True
    found = judge_lists(torch.from_numpy(scores), torch.zeros(5, ITEMS, dtype=torch.bool), torch.from_numpy(relevant))
    assert float(found.ndcg.mean()) == pytest.approx(ndcg_score(relevant, scores, k=10), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_metrics_see_the_order_of_scores_alone(seed):
    train, test = random_rows(seed, 4)
    scores = torch.from_numpy(np.random.default_rng(seed).integers(9, size=(4, ITEMS))).double()
    scorers = {
        "plain": lambda users: scores[users],
        "exponential": lambda users: scores[users].exp(),
        "shifted by user": lambda users: scores[users] / 8 + users[:, None],
    }
    plain, *others = judge_ranking(scorers, train, test, ITEMS).values()
    assert all(other == plain for other in others)


def test_a_disliked_item_is_no_longer_relevant_and_a_user_without_relevant_ones_no_longer_counts():
    train = rows([(0, 0, 1.0), (1, 0, 1.0), (2, 0, 1.0)])
    test = rows([(0, 1, 5.0), (0, 2, 2.0), (1, 3, 3.5), (2, 4, 4.0)])
    scorers = {"popular": lambda users: -torch.arange(ITEMS, dtype=torch.float64).expand(len(users), -1)}
    liked = judge_ranking(scorers, train, test, ITEMS, relevant_from=4.0)["popular"]
    assert liked.users == 2
    assert values_of(liked) == pytest.approx([(1 + 1 / math.log2(5)) / 2, 1, 1], rel=1e-15)
    assert judge_ranking(scorers, train, test, ITEMS)["popular"].users == 3


def test_an_item_that_was_seen_cannot_be_relevant():
    train, test = rows([(0, 1, 3.0), (1, 0, 3.0)]), rows([(0, 1, 5.0), (1, 1, 4.0), (1, 1, 2.0)])
    metrics = judge_ranking({"own": lambda users: torch.zeros(len(users), 3).double()}, train, test, 3)["own"]
    assert metrics == RankingMetrics(users=1, ndcg_at_10=1.0, recall_at_20=1.0, hit_rate_at_10=1.0)


def test_users_come_in_chunks_of_a_bounded_number_of_scores(monkeypatch):
    train, test = random_rows(3, 9)
    scores = torch.randn(9, ITEMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    asked: list[list[int]] = []

    def scorer(users: Tensor) -> Tensor:
        asked.append(users.tolist())
        return scores[users]

    whole = judge_ranking({"own": scorer}, train, test, ITEMS)
    monkeypatch.setattr(ranking, "SCORES_AT_ONCE", 4 * ITEMS + 1)
    assert judge_ranking({"own": scorer}, train, test, ITEMS) == whole
    assert asked == [list(range(9)), [0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_of_too_many_users_some_drawn_at_random_are_judged():
    train, test = random_rows(3, 9)
    scores = torch.randn(9, ITEMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    asked: list[int] = []

    def scorer(users: Tensor) -> Tensor:
        asked.extend(users.tolist())
        return scores[users]

    for most, judged in ((9 * ITEMS, 9), (9 * ITEMS - 1, 8), (4 * ITEMS, 4), (1, 1)):
        asked.clear()
        assert judge_ranking({"own": scorer}, train, test, ITEMS, most_scores=most)["own"].users == judged
        assert asked == sorted(set(asked))
        assert len(asked) == judged


def test_without_test_items_there_is_nothing_to_judge():
    train, test = random_rows(0, 2)
    with pytest.raises(DataError, match="no user has a test item"):
        judge_ranking({}, train, test, ITEMS, relevant_from=6.0)


def test_records_have_the_scorers_names_and_figures():
    train, test = random_rows(1, 6)
    scorers = {
        name: lambda users, factor=factor: factor * torch.arange(ITEMS).expand(len(users), -1).double()
        for name, factor in (("up", 1), ("down", -1))
    }
    records = judge_scorers(scorers, train, test, ITEMS)
    found = judge_ranking(scorers, train, test, ITEMS)
    assert [record.model for record in records] == ["up", "down"]
    for record in records:
        assert [record.ndcg_at_10, record.recall_at_20, record.hr_at_10] == values_of(found[record.model])
    assert records[0] != records[1]
    assert judge_scorers({}, train, test, ITEMS) == []


def test_the_figures_are_those_of_the_model_that_recommends():
    records = [
        RankingRecord(model=name, ndcg_at_10=0.1 + base, recall_at_20=0.2 + base, hr_at_10=0.3 + base)
        for name, base in (("one", 0.0), ("two", 0.5))
    ]
    assert figures_of(records, "two") == {"ndcg@10": 0.6, "recall@20": 0.7, "hr@10": 0.8}
    assert figures_of(records, "three") == figures_of([], "one") == {}


def test_sampled_items_are_never_rated_ones_the_same_in_every_call_and_at_most_99():
    rated = torch.rand(3, 300, generator=torch.Generator().manual_seed(0)) < 0.2
    rated[2, :250] = True
    users = np.array([4, 7, 9])
    chosen = sampled_items(rated, users, seed=1)
    assert not (chosen & rated).any()
    assert chosen.sum(1).tolist() == [99, 99, int((~rated[2]).sum())]
    assert torch.equal(chosen[1:2], sampled_items(rated[1:2], users[1:2], seed=1))
    assert not torch.equal(chosen, sampled_items(rated, users, seed=2))


def test_lists_of_sampled_items_rank_the_held_out_item_among_them_alone():
    train, test = rows([(0, 0, 5.0), (1, 1, 4.0)]), rows([(0, 150, 3.0), (1, 200, 4.0)])
    scores = -torch.arange(400, dtype=torch.float64).expand(2, -1)
    found = judge_ranking({"own": lambda users: scores[users]}, train, test, 400, sampling_seed=3)["own"]
    assert found.sampled is not None
    seen = torch.zeros(2, 400, dtype=torch.bool)
    for user, (known, held) in enumerate([(0, 150), (1, 200)]):
        seen[user, [known, held]] = True
    chosen = sampled_items(seen, np.array([0, 1]), seed=3)
    places = [int(chosen[user, :held].sum()) for user, held in enumerate((150, 200))]
    expected = [1 / math.log2(place + 2) if place < 10 else 0.0 for place in places]
    assert found.sampled.ndcg_at_10 == pytest.approx(np.mean(expected))
    assert found.sampled.hit_rate_at_10 == np.mean([place < 10 for place in places])


def test_only_ratings_from_the_bound_on_are_relevant():
    train, test = random_rows(1, 6)
    scorers = {"up": lambda users: torch.arange(ITEMS).expand(len(users), -1).double()}
    (record,) = judge_scorers(scorers, train, test, ITEMS, relevant_from=4)
    liked = judge_ranking(scorers, train, test.take(test.value >= 4), ITEMS)["up"]
    assert [record.ndcg_at_10, record.recall_at_20, record.hr_at_10] == values_of(liked)
    assert values_of(liked) != values_of(judge_ranking(scorers, train, test, ITEMS)["up"])
