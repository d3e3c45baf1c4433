"""The choice of the lists' blend, and of its parts' penalties, on validation rows. It uses only sums, and no test row.

A blend adds standardised scores with weights from a grid; a part alone is a point of the grid. So where no blend is
better on validation rows, the best part makes the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Train
from hierfed.federated.rules import Rule
from hierfed.federated.stage import RATING
from hierfed.methods.messages import EASE, IMPLICIT
from hierfed.methods.ranking.scores import Ranker, known_items, popularity, standardise
from hierfed.methods.ranking.stages import ease_of, implicit_of
from hierfed.methods.ranking.validation import Held
from hierfed.models.lists import exclude, rated_matrix
from hierfed.randomness import generator
from hierfed.results import ListChoice, ListTrial
from hierfed.settings import Settings

PARTS = ("ease", "implicit", "rating", "popularity")
# Weights are multiples of one such step, and sum to 1.
STEPS = 6
LENGTH = 10
# A blend's first places are looked for among so many first places of each part.
FIRST = 60


@dataclass(frozen=True)
class JudgedUsers:
    """Some users of a node, and what is to be found for them.

    users: their numbers, ascending. own: the items that each has rated, float64 [users, items], 0 or 1.
    wanted: the items of their validation rows, bool [users, items].
    """

    users: Tensor
    own: Tensor
    wanted: Tensor

    @cached_property
    def ideal(self) -> Tensor:
        """The DCG of the best list of each user, [users]."""
        return discounts().cumsum(0)[self.wanted.sum(1).clamp(1, LENGTH) - 1]


def discounts() -> Tensor:
    """1 / log2(place + 1) of the first LENGTH places."""
    return 1 / torch.log2(torch.arange(2, LENGTH + 2, dtype=torch.float64))


def judged_users(nodes: Sequence[Node], items: int, most: int, seed: int) -> Iterator[tuple[int, JudgedUsers]]:
    """At most about `most` users with validation rows, drawn at random and evenly from the nodes that have some."""
    having = [place for place, node in enumerate(nodes) if len(node.test)]
    rng = generator(seed, 0, 0, "users who judge lists")
    chosen = np.sort(rng.permutation(having)[:most])
    for place in chosen.tolist():
        node = nodes[place]
        users = np.unique(node.test.user)
        users = np.sort(rng.permutation(users)[: max(most // len(chosen), 1)])
        own, held = (_rated(rows.take(np.isin(rows.user, users)), users, items) for rows in (node.train, node.test))
        wanted = torch.from_numpy((held > 0) & (own == 0))
        some = wanted.any(1)
        yield place, JudgedUsers(torch.from_numpy(users).long()[some], torch.from_numpy(own)[some], wanted[some])


def _rated(rows: Ratings, users: np.ndarray, items: int) -> np.ndarray:
    """The items that these users have rated, 0 or 1, [users, items]."""
    found: np.ndarray = rated_matrix(replace(rows, user=np.searchsorted(users, rows.user)), len(users), items).toarray()
    return found


def ndcg_of_lists(scores: Tensor, judged: JudgedUsers) -> Tensor:
    """NDCG@10 of each user's list, [users]; scores: [users, items]."""
    lists = exclude(scores, judged.own > 0).topk(min(LENGTH, scores.shape[1]), dim=1).indices
    hits = judged.wanted.gather(1, lists).double()
    return hits @ discounts()[: hits.shape[1]] / judged.ideal


def grid() -> Tensor:
    """The weights of all candidates, [candidates, parts]: first each part alone, then the blends."""
    points = [
        point for point in product(range(STEPS + 1), repeat=len(PARTS)) if sum(point) == STEPS and max(point) < STEPS
    ]
    alone = torch.eye(len(PARTS), dtype=torch.float64)
    return torch.cat([alone, torch.tensor(points, dtype=torch.float64) / STEPS])


def ndcg_of_blends(parts: Sequence[Tensor], judged: JudgedUsers, weights: Tensor) -> Tensor:
    """NDCG@10 of each candidate's list, [candidates, users].

    parts: standardised scores of each part, [users, items].
    weights: [candidates, parts].
    """
    first = min(FIRST, parts[0].shape[1])
    seen = judged.own > 0
    items = torch.cat([exclude(scores, seen).topk(first, dim=1).indices for scores in parts], 1)
    # An item that several parts place first counts once.
    items, _ = items.sort(dim=1)
    again = torch.cat([torch.zeros_like(items[:, :1], dtype=torch.bool), items[:, 1:] == items[:, :-1]], 1)
    out = again | seen.gather(1, items)
    gathered = torch.stack([scores.gather(1, items) for scores in parts])
    hit, found = judged.wanted.gather(1, items).double(), []
    for some in torch.split(weights, 16):
        scores = torch.einsum("cp,pui->cui", some, gathered).masked_fill(out, -torch.inf)
        places = scores.topk(min(LENGTH, items.shape[1]), dim=2).indices
        hits = hit.expand(len(some), -1, -1).gather(2, places)
        found.append(hits @ discounts()[: hits.shape[2]] / judged.ideal)
    return torch.cat(found)


def best_of(found: Iterable[tuple[int, Tensor]], rule: Rule) -> tuple[int, Tensor, int]:
    """The candidate of highest mean NDCG@10, the first of equals; all means; and the number of users.

    found: each node's place, and the NDCG@10 [candidates, users] of its users, of which only sums leave the node.
    """
    total = rule(
        (place, Contribution({"ndcg": each.sum(1), "users": each.new_tensor([each.shape[1]])})) for place, each in found
    ).total.arrays
    means = total["ndcg"] / total["users"].clamp_min(1)
    return int(means.argmax()), means, int(total["users"])


def choose_lists(
    settings: Settings,
    content: Content,
    rating: SharedModel,
    held: Held,
    expected: Callable[[int, Tensor], Tensor],
    train: Train,
    rule: Rule,
) -> tuple[Settings, ListChoice]:
    """Choose the penalties of Ease and implicit factors, then the weights of the blend.

    rating: the model of ratings, trained on the learning nodes.
    expected: the expected ratings of all items, from the place of a judged node and its users' numbers.
    train: trains a candidate on nodes. rule: adds up sums over nodes.
    Gives the settings with the choices, and their record.
    """
    ranking, models, items = settings.ranking, {RATING: rating}, len(rating.arrays["raters"])
    judged = list(judged_users(held.judged, items, ranking.choice_users, settings.seed))
    trials = list[ListTrial]()

    def tried(setting: str, stage: str, values: Sequence[float]) -> tuple[Settings, list[tuple[int, Tensor]]]:
        """The settings with the best of the values, and that model's scores of each judged node's users."""
        known = len(known_items(rating.arrays["raters"]))
        values = values if known <= ranking.choice_items else values[:1]
        candidates = [_with(settings, {setting: value}) for value in values]
        scores = [_scores(stage, each, content, models, held, judged, train) for each in candidates]
        per_node = (
            (place, torch.stack([ndcg_of_lists(each[number][1], users) for each in scores]))
            for number, (place, users) in enumerate(judged)
        )
        best, means, _ = best_of(per_node, rule)
        for number, (value, mean) in enumerate(zip(values, means.tolist(), strict=True)):
            trials.append(ListTrial(setting=setting, value=value, ndcg_at_10=mean, chosen=number == best))
        return candidates[best], scores[best]

    settings, ease = tried("ease_penalty", EASE, (ranking.ease_penalty, *ranking.ease_penalties))
    settings, implicit = tried("implicit_penalty", IMPLICIT, (ranking.implicit_penalty, *ranking.implicit_penalties))
    weights = grid()

    def blended() -> Iterator[tuple[int, Tensor]]:
        for number, (place, users) in enumerate(judged):
            everyone = popularity(rating.arrays["raters"], len(users.users))
            parts = ease[number][1], implicit[number][1], expected(place, users.users), everyone
            yield place, ndcg_of_blends([standardise(part) for part in parts], users, weights)

    best, means, count = best_of(blended(), rule)
    chosen = dict(zip(PARTS, weights[best].tolist(), strict=True))
    return (
        _with(settings, {f"{name}_weight": weight for name, weight in chosen.items()}),
        ListChoice(
            users=count,
            trials=trials,
            weights=chosen,
            ndcg_at_10=float(means[best]),
            parts=dict(zip(PARTS, means.tolist(), strict=False)),
        ),
    )


def _scores(
    stage: str,
    settings: Settings,
    content: Content,
    models: Mapping[str, SharedModel],
    held: Held,
    judged: Sequence[tuple[int, JudgedUsers]],
    train: Train,
) -> list[tuple[int, Tensor]]:
    """The scores of a ranking model with these settings, trained on the learning nodes, by judged node."""
    ease = stage == EASE
    method = ease_of(settings, content, models) if ease else implicit_of(settings, models)
    shared = train(method, held.learning, 1 if ease else settings.ranking.implicit_rounds).shared
    ranker: Ranker = method
    return [(place, ranker.scores(shared, users.own)) for place, users in judged]


def _with(settings: Settings, values: Mapping[str, float]) -> Settings:
    return settings.model_copy(update={"ranking": settings.ranking.model_copy(update=dict(values))})
