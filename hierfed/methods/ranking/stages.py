"""Recommendation lists of a run: ranking models trained on the run's nodes, and judged beside popularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import OnShare, run_rounds, untold
from hierfed.evaluation.ranking import Scorer, blended_scorer, judge_ranking, model_scorer
from hierfed.federated.contract import SharedModel
from hierfed.federated.recording import Recorder, recorded
from hierfed.federated.summation import Summation, sum_openly
from hierfed.methods.hierarchical.personal import PersonalFactors, newcomer
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.ranking.ease import MOST_ITEMS, Ease, public_likeness
from hierfed.methods.ranking.implicit import ImplicitFactors
from hierfed.methods.ranking.scores import BLEND_WEIGHTS, popularity
from hierfed.models.places import places_among
from hierfed.results import RankingRecord
from hierfed.settings import Settings

RECOMMENDS = "blend"


@dataclass(frozen=True)
class Ranked:
    """The trained ranking models, which recommend blended with expected ratings, and every one's figures."""

    ease: SharedModel
    implicit: SharedModel
    records: list[RankingRecord]

    @property
    def models(self) -> dict[str, SharedModel]:
        """The two trained models, by the stage that trains each."""
        return {"ease": self.ease, "implicit": self.implicit}

    @property
    def figures(self) -> dict[str, float]:
        """Those of the model that recommends, by their usual names."""
        (own,) = (record for record in self.records if record.model == RECOMMENDS)
        return {"ndcg@10": own.ndcg_at_10, "recall@20": own.recall_at_20, "hr@10": own.hr_at_10}


def rank(
    settings: Settings,
    nodes: Sequence[Node],
    models: Sequence[PersonalFactors | PiecewiseFactors],
    content: Content,
    raters: Tensor,
    own: Ratings,
    held_out: Ratings,
    summation: Summation = sum_openly,
    recorder: Recorder | None = None,
    on_share: OnShare = untold,
) -> Ranked:
    """Train Ease and implicit factors on the federated nodes, and judge them on the personalisation users.

    content: what is publicly known of the items. raters [items]: of the federated rows. own: what the personalisation
    users have rated before; held_out: what they rated besides. summation: how contributions are added. recorder: who is
    told of their sums. on_share: told how far each round is.
    Items with fewer raters than the settings' threshold are never summed; nor, for Ease, those beyond the MOST_ITEMS
    most rated.
    """
    items = len(raters)
    methods = ranking_methods(settings, content, raters)
    ease, implicit = methods.ease, methods.implicit
    rounds = settings.ranking.implicit_rounds
    train = partial(run_rounds, nodes=nodes, summation=summation, on_share=on_share)
    trained_ease = train(recorded(ease, "ease", recorder), rounds=1).shared
    trained_implicit = train(recorded(implicit, "implicit", recorder), rounds=rounds).shared
    scorers: dict[str, Scorer] = {
        "popularity": lambda users: popularity(trained_ease.arrays["raters"], len(users)),
        "rating": expected_ratings(models),
        "implicit": model_scorer(implicit, trained_implicit, own, items),
        "ease": model_scorer(ease, trained_ease, own, items),
    }
    scorers["blend"] = blended_scorer(scorers, BLEND_WEIGHTS)
    return Ranked(
        trained_ease,
        trained_implicit,
        [
            RankingRecord(
                model=name,
                ndcg_at_10=found.ndcg_at_10,
                recall_at_20=found.recall_at_20,
                hr_at_10=found.hit_rate_at_10,
            )
            for name, found in judge_ranking(scorers, own, held_out, items).items()
        ],
    )


@dataclass(frozen=True)
class RankingMethods:
    """The two methods that learn rankings."""

    ease: Ease
    implicit: ImplicitFactors


def ranking_methods(settings: Settings, content: Content, raters: Tensor) -> RankingMethods:
    """The ranking models' methods; raters [items]: of the federated rows, as the hierarchical model knows them."""
    items, wanted = len(raters), settings.ranking
    least = max(settings.factors.min_raters, wanted.least_raters)
    ease = Ease(items, wanted.ease_penalty, max(least, _least_that_fits(raters)), public_likeness(content))
    return RankingMethods(ease, ImplicitFactors(items, settings.seed, wanted.implicit_rank, least_raters=least))


def _least_that_fits(raters: Tensor) -> int:
    if len(raters) <= MOST_ITEMS:
        return 1
    return int(raters.sort(descending=True).values[MOST_ITEMS]) + 1


def expected_ratings(models: Sequence[PersonalFactors | PiecewiseFactors]) -> Scorer:
    """Scores by expected rating; a user whom no model knows gets a newcomer's."""
    knowledge = models[0].knowledge
    pairs = [(model.users, model.weights) for model in models]
    numbers, order = torch.cat([users for users, _ in pairs]).sort()
    weights, unknown = torch.cat([weights for _, weights in pairs])[order], newcomer(knowledge).newcomer

    def score(users: Tensor) -> Tensor:
        place, known = places_among(numbers, users)
        return knowledge.expected(torch.where(known[:, None], weights[place], unknown))

    return score
