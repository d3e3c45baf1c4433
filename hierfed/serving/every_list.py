"""The lists of all users of a run, many users at a time, so that one product serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hierfed.data.ratings import concatenated
from hierfed.federated.private import ModelsOnDemand
from hierfed.federated.stage import RATING
from hierfed.models.lists import exclude, top
from hierfed.serving.served import Served, ServedUser

# Users whose scores are made at once: enough to read the weights of lists for many, and few enough to stay in caches.
SCORED = 256


def lists_of(
    served: Served, names: Sequence[str], user_of: Callable[[str], ServedUser], k: int, order: str, batch: int
) -> Iterator[pl.DataFrame]:
    """Frames with the columns user, rank, item and score, for `batch` users each; seen items are left out."""
    ids = pl.Series(served.ids, dtype=pl.String)
    for begin in range(0, len(names), batch):
        some = names[begin : begin + batch]
        yield pl.concat(
            _lists(served, ids, some[first : first + SCORED], user_of, k, order)
            for first in range(0, len(some), SCORED)
        )


def _lists(
    served: Served, ids: pl.Series, names: Sequence[str], user_of: Callable[[str], ServedUser], k: int, order: str
) -> pl.DataFrame:
    users = [user_of(name) for name in names]
    scores, seen = _scores(served, users, order), torch.zeros(len(users), len(ids), dtype=torch.bool)
    for row, user in enumerate(users):
        seen[row, user.seen] = True
    left = exclude(scores, seen)
    best = top(left, k)
    values = left.gather(1, best)
    inside = values.isfinite()
    rows, ranks = (each.numpy() for each in inside.nonzero(as_tuple=True))
    return pl.DataFrame(
        {
            "user": pl.Series(names, dtype=pl.String).gather(rows),
            "rank": (ranks + 1).astype(np.int32),
            "item": ids.gather(best[inside].numpy()),
            "score": values[inside].numpy(),
        }
    )


def _scores(served: Served, users: Sequence[ServedUser], order: str) -> Tensor:
    """The scores that single calls give, [users, items]."""
    rated = [place for place, user in enumerate(users) if len(user.own)]
    asked = order or served.method.recommends_by
    if not served.trained or asked == RATING or not rated:
        return torch.cat([served.scores(user, order)[0] for user in users])
    some = [users[place] for place in rated]
    models = ModelsOnDemand(len(some), lambda number: some[number].model.numbered(number))
    own = [replace(user.own, user=np.full_like(user.own.user, number)) for number, user in enumerate(some)]
    found = served.scorer(models, concatenated(own), asked)(torch.arange(len(some)))
    if len(rated) == len(users):
        return found
    scores = torch.empty(len(users), len(served.catalogue), dtype=torch.float64)
    scores[rated] = found
    for place in sorted({*range(len(users))} - {*rated}):
        scores[place] = served.scores(users[place], order)[0][0]
    return scores
