"""Small tables, and the rows or the refusal that reading them gives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from hierfed.data.ratings import Dataset
from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

NOON = int(datetime(2020, 12, 31, 12, tzinfo=UTC).timestamp())
ROWS = [("u1", "i1", 4.0), ("u1", "i2", 2.0), ("u2", "i1", 5.0)]
SMALL = "user,item,rating\nu1,i1,4\nu1,i2,2\nu2,i1,5\n"


def triples(dataset: Dataset) -> list[tuple[str, str, float]]:
    users, items = dataset.user_ids.to_list(), dataset.catalogue.frame["item_id"].to_list()
    columns = dataset.ratings
    return [
        (str(users[u]), str(items[i]), float(v))
        for u, i, v in zip(columns.user, columns.item, columns.value, strict=True)
    ]


def refusal(source: Any, **how: Any) -> str:
    query = {"query": how.pop("query")} if "query" in how else {}
    with pytest.raises(DataError) as caught:
        load(source, how=TableSettings(**how), **query)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def frame_of(rows: Sequence[Sequence[Any]], names: Sequence[str] = ("user", "item", "rating")) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(names), orient="row")
