"""Sample recommendations for a report: lists for invented people, so that nobody's own list is shown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hierfed.data.catalogue import Catalogue
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.federated.stage import RATING
from hierfed.models.lists import exclude, top
from hierfed.plain_text import printable
from hierfed.results import SampleList
from hierfed.settings import Settings

PEOPLE, LENGTH, LONGEST_TITLE = 2, 5, 80


def sample_lists(
    settings: Settings, catalogue: Catalogue, method: Method, models: Mapping[str, SharedModel], ratings: Ratings
) -> list[SampleList]:
    """Lists for made-up people who have given the highest rating to one of the most rated items, and no other.

    models: the finished shared models, by stage. ratings: tell the most rated items and the highest rating.
    None where the ratings say nothing, since all are one.
    """
    if ratings.limits[0] == ratings.limits[1]:
        return []
    counts = np.bincount(ratings.item, minlength=len(catalogue))
    loved = np.argsort(-counts, kind="stable")[:PEOPLE].tolist()
    return [_list_for(item, ratings.limits[1], settings, catalogue, method, models) for item in loved]


def _list_for(
    item: int,
    rating: float,
    settings: Settings,
    catalogue: Catalogue,
    method: Method,
    models: Mapping[str, SharedModel],
) -> SampleList:
    own = Ratings(np.zeros(1, np.int32), np.array([item], np.int32), np.array([rating], np.float32))
    person = method.learner(models[RATING])(own)
    everything = torch.arange(len(catalogue))
    expected = person.predict(rows_to_predict(torch.zeros_like(everything), everything))
    scorers = method.scorers(settings, models, [person], own)
    by = scorers.get(method.recommends_by)
    scores = expected[None] if by is None else by(torch.zeros(1, dtype=torch.int64))
    seen = torch.zeros(1, len(catalogue), dtype=torch.bool)
    seen[0, item] = True
    listed: Tensor = top(exclude(scores, seen), min(LENGTH, len(catalogue) - 1))[0]
    return SampleList(
        loved=_title(catalogue, item),
        titles=[_title(catalogue, each) for each in listed.tolist()],
        expected=[float(expected[each]) for each in listed.tolist()],
    )


def _title(catalogue: Catalogue, item: int) -> str:
    title, item_id = catalogue.frame["title"][item], catalogue.frame["item_id"].cast(pl.String)[item]
    return printable(f"item {item_id}" if title is None else title, LONGEST_TITLE)
