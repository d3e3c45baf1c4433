"""The choice of the lists' blend, and of its parts' penalties, on validation rows. It uses only sums, and no test row.

A blend adds standardised scores with weights from a grid; a part alone is a point of the grid. The best of many blends
looks better on validation rows than it is. So the best part makes the lists unless the blend's gain on it is more than
GAIN_FROM standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Train
from hierfed.federated.rules import Rule
from hierfed.federated.stage import RATING
from hierfed.methods.ranking.ease import CoRaters, with_penalty
from hierfed.methods.ranking.scores import known_items, popularity, standardise
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
# Penalties of implicit factors are compared after so many rounds.
EARLY_ROUNDS = 4
GAIN_FROM = 2.0
# A blend's first places are looked for among so many first places of each part.
FIRST = 60


@dataclass(frozen=True)
class JudgedUsers:
    """Some users of a node, and what is to be found for them.

    users: their numbers, ascending. own: ones for the items that each has rated, float64 [users, items].
    wanted: the items of their validation rows, bool [users, items].
    """

    users: Tensor
    own: csr_array
    wanted: Tensor

    @cached_property
    def seen(self) -> Tensor:
        """The items that each has rated, bool [users, items]."""
        return torch.from_numpy(self.own.toarray() > 0)

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
        wanted = (held.toarray() > 0) & (own.toarray() == 0)
        some = wanted.any(1)
        yield place, JudgedUsers(torch.from_numpy(users[some]).long(), own[some], torch.from_numpy(wanted[some]))


def _rated(rows: Ratings, users: np.ndarray, items: int) -> csr_array:
    """Ones for the items that these users have rated, [users, items]."""
    return rated_matrix(replace(rows, user=np.searchsorted(users, rows.user)), len(users), items)


def ndcg_of_lists(scores: Tensor, judged: JudgedUsers) -> Tensor:
    """NDCG@10 of each user's list, [users]; scores: [users, items]."""
    lists = exclude(scores, judged.seen).topk(min(LENGTH, scores.shape[1]), dim=1).indices
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
    seen = judged.seen
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


def best_blend(found: Iterable[tuple[int, Tensor]], rule: Rule) -> tuple[int, Tensor, int]:
    """As best_of, where the first candidates are PARTS: the best part, unless a blend gains enough on it.

    The users' own gains are the sample of the gain's standard error; nodes send sums of their squares.
    """
    parts = slice(0, len(PARTS))

    def with_squares() -> Iterator[tuple[int, Contribution]]:
        for place, each in found:
            gains = each[None] - each[parts, None]
            yield (
                place,
                Contribution(
                    {"ndcg": each.sum(1), "users": each.new_tensor([each.shape[1]]), "squares": gains.square().sum(2)}
                ),
            )

    total = rule(with_squares()).total.arrays
    sums = total["ndcg"]
    best, part = int(sums.argmax()), int(sums[parts].argmax())
    pays = sums[best] - sums[part] > GAIN_FROM * total["squares"][part, best].sqrt()
    return best if pays else part, sums / total["users"].clamp_min(1), int(total["users"])


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
    trials, several = list[ListTrial](), len(known_items(rating.arrays["raters"])) <= ranking.choice_items

    def judged() -> Iterator[tuple[int, JudgedUsers]]:
        """The users of one node at a time, so that no more arrays of users by items are held."""
        return judged_users(held.judged, items, ranking.choice_users, settings.seed)

    def best_value(setting: str, values: Sequence[float], scorers: Sequence[Callable[[csr_array], Tensor]]) -> int:
        """The place of the best value; scorers: give the scores by each, from users' own items."""
        per_node = (
            (place, torch.stack([ndcg_of_lists(score(users.own), users) for score in scorers]))
            for place, users in judged()
        )
        best, means, _ = best_of(per_node, rule)
        for number, (value, mean) in enumerate(zip(values, means.tolist(), strict=True)):
            trials.append(ListTrial(setting=setting, value=value, ndcg_at_10=mean, chosen=number == best))
        return best

    # One sum of co-raters makes the models of all penalties.
    values = (ranking.ease_penalty, *ranking.ease_penalties) if several else (ranking.ease_penalty,)
    ease = ease_of(settings, content, models, ranking.choice_items)
    counted = train(CoRaters(**vars(ease)), held.learning, 1).shared
    of_ease = [with_penalty(counted, value) for value in values]
    del counted
    best = best_value("ease_penalty", values, [partial(ease.scores, each) for each in of_ease])
    best_ease, settings = of_ease[best], _with(settings, {"ease_penalty": values[best]})
    del of_ease

    # All penalties of implicit factors train for some rounds. The best of them trains to the end.
    values = (ranking.implicit_penalty, *ranking.implicit_penalties) if several else (ranking.implicit_penalty,)
    rounds = ranking.implicit_rounds
    methods = [implicit_of(_with(settings, {"implicit_penalty": value}), models) for value in values]
    early = [train(each, held.learning, min(EARLY_ROUNDS, rounds)).shared for each in methods]
    by_factors = [partial(each.scores, shared) for each, shared in zip(methods, early, strict=True)]
    best = best_value("implicit_penalty", values, by_factors)
    implicit, settings = methods[best], _with(settings, {"implicit_penalty": values[best]})
    factors = train(replace(implicit, begun=early[best]), held.learning, rounds).shared
    weights = grid()

    def blended() -> Iterator[tuple[int, Tensor]]:
        for place, users in judged():
            everyone = popularity(best_ease, len(users.users))
            parts = (
                ease.scores(best_ease, users.own),
                implicit.scores(factors, users.own),
                expected(place, users.users),
                everyone,
            )
            yield place, ndcg_of_blends([standardise(part) for part in parts], users, weights)

    best, means, count = best_blend(blended(), rule)
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


def _with(settings: Settings, values: Mapping[str, float]) -> Settings:
    return settings.model_copy(update={"ranking": settings.ranking.model_copy(update=dict(values))})
