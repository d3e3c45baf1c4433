"""The ranking models as stages of a run, and their lists together with expected ratings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.rater_classes import whole_classes_from
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Scorer
from hierfed.federated.stage import RATING, Stage
from hierfed.methods.messages import EASE, IMPLICIT
from hierfed.methods.ranking.ease import Ease, least_that_fits, most_items, public_likeness
from hierfed.methods.ranking.implicit import ImplicitFactors
from hierfed.methods.ranking.scores import Ranker, blend, popularity
from hierfed.models.lists import rated_matrix
from hierfed.settings import Settings

BLEND = "blend"


def ranking_stages(settings: Settings, content: Callable[[], Content]) -> list[Stage]:
    """Ease, then implicit factors. Both use the raters that the rating model knows.

    Items with fewer raters than the settings' threshold are never summed. Ease takes only the most rated items of which
    matrices fit in the settings' memory, whole classes of them.

    content: gives the public features of the items.
    """
    return [
        Stage(EASE, 1, lambda models: ease_of(settings, content(), models), -1),
        Stage(IMPLICIT, settings.ranking.implicit_rounds, lambda models: implicit_of(settings, models), -1),
    ]


def ease_of(
    settings: Settings, content: Content | None, models: Mapping[str, SharedModel], most: int | None = None
) -> Ease:
    """Ease on the items whose raters the finished rating model knows.

    content: None for one that is trained, whose scores need no likeness.
    most: of the most rated ones; None for as many as fit in the settings' memory.
    """
    raters, memory = models[RATING].arrays["raters"], settings.ranking.memory_gigabytes
    fit = most_items(memory) if most is None else min(most, most_items(memory))
    least = max(_least_raters(settings), least_that_fits(raters, fit))
    likeness = None if content is None else public_likeness(content)
    return Ease(len(raters), settings.ranking.ease_penalty, least, likeness, memory)


def implicit_of(settings: Settings, models: Mapping[str, SharedModel]) -> ImplicitFactors:
    """Implicit factors on the items whose raters the finished rating model knows."""
    ranking = settings.ranking
    return ImplicitFactors(
        len(models[RATING].arrays["raters"]),
        settings.seed,
        ranking.implicit_rank,
        penalty=ranking.implicit_penalty,
        least_raters=_least_raters(settings),
        threads=settings.training.threads,
    )


def ranking_scorers(
    settings: Settings, models: Mapping[str, SharedModel], expected: Scorer, own: Ratings
) -> dict[str, Scorer]:
    """Popularity, expected ratings, both ranking models, and their blend.

    models: the finished models by stage.
    expected: scores by expected rating.
    own: the users' ratings.
    """
    seen = _seen_by(own, len(models[RATING].arrays["raters"]))
    scorers: dict[str, Scorer] = {
        "popularity": lambda users: popularity(models[EASE], len(users)),
        "rating": expected,
        "implicit": _by_model(implicit_of(settings, models), models[IMPLICIT], seen),
        "ease": _by_model(ease_of(settings, None, models), models[EASE], seen),
    }
    scorers = {name: _once(scorer) for name, scorer in scorers.items()}
    weights = {name: getattr(settings.ranking, f"{name}_weight") for name in scorers}
    scorers[BLEND] = _blended(dict(scorers), {name: weight for name, weight in weights.items() if weight})
    if settings.data.implicit:  # All expected ratings are equal.
        del scorers["rating"]
    return scorers


def _by_model(ranker: Ranker, shared: SharedModel, seen: Callable[[Tensor], csr_array]) -> Scorer:
    """The scores of a trained model. Each user's scores depend on that user's own rows and the shared model only."""
    return lambda users: ranker.scores(shared, seen(users))


def _seen_by(own: Ratings, items: int) -> Callable[[Tensor], csr_array]:
    """1 for the items that each user has rated, else 0, by the users' numbers."""
    # The last row is empty, and serves all users after the last one with rows.
    nobody = 1 + int(own.user.max(initial=-1))
    rated = rated_matrix(own, nobody + 1, items)
    return lambda users: rated[users.clamp(max=nobody).numpy()]


def _once(scorer: Scorer) -> Scorer:
    """The same scorer. It keeps its last scores, so that a blend of the same users does not compute them again."""
    last: list[tuple[Tensor, Tensor]] = []

    def score(users: Tensor) -> Tensor:
        if not last or not torch.equal(last[0][0], users):
            last[:] = [(users.clone(), scorer(users))]
        return last[0][1]

    return score


def _blended(scorers: Mapping[str, Scorer], weights: Mapping[str, float]) -> Scorer:
    """The named models' scores, standardised user by user and added with their weights."""
    return lambda users: blend({name: scorers[name](users) for name in weights}, weights)


def _least_raters(settings: Settings) -> int:
    """The least number of raters. Above the rating model's own it parts no class: nodes know that model's classes."""
    own, least = settings.factors.min_raters, settings.ranking.least_raters
    return math.ceil(whole_classes_from(least)) if least > own else own
