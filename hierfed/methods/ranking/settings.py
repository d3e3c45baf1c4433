"""The settings of the ranking models."""

from __future__ import annotations

from hierfed.section import Count, NonNegative, Positive, Section


class RankingSettings(Section):
    """Recommendation lists besides those of the hierarchical model; see methods.ranking.

    rank_items: true trains the ranking models.
    relevant_from: the lowest rating that makes a held-out item one to recommend; empty for any rating.
    least_raters: items with fewer are never counted together.
    ease_penalty: the ridge penalty of Ease, in raters.
    implicit_rank, implicit_rounds, implicit_penalty: rank, rounds and penalty of the implicit factors.
    ease_penalties, implicit_penalties: tried beside ease_penalty and implicit_penalty, where a selection is on and at
    most choice_items items have enough raters; the best on validation rows replaces it.
    choice_items: see ease_penalties; of more items, only the most rated are in the Ease that the choice tries.
    memory_gigabytes: most memory of Ease's matrices of items by items; of more items, only the most rated are in it.
    most_scores: lists are judged of so many users, drawn at random, that users times items are no more.
    choice_users: most users whose validation rows choose.
    ease_weight, implicit_weight, rating_weight, popularity_weight: the weights of the blend; a selection replaces
    them.
    """

    rank_items: bool = True
    relevant_from: float | tuple[()] = ()
    least_raters: Count = 5
    ease_penalty: Positive = 250.0
    implicit_rank: Count = 32
    implicit_rounds: Count = 8
    implicit_penalty: Positive = 0.02
    ease_penalties: tuple[Positive, ...] = (60.0, 1000.0)
    implicit_penalties: tuple[Positive, ...] = (0.005, 0.08)
    choice_items: Count = 6000
    memory_gigabytes: Positive = 2.0
    most_scores: Count = 200_000_000
    choice_users: Count = 1000
    ease_weight: NonNegative = 1.0
    implicit_weight: NonNegative = 1.5
    rating_weight: NonNegative = 1.2
    popularity_weight: NonNegative = 0.0
