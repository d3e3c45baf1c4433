"""The items of a run as callers name them: by id, by words of a title, by genres and years."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from hierfed.errors import HierfedError
from hierfed.lookup import nearest
from hierfed.serving.served import Served

Id = str | int


class ItemIndex:
    """Finds the items of a run's catalogue, which is read when it is first asked."""

    def __init__(self, served: Served):
        self._served = served

    def number(self, item: Id) -> int:
        """The number of an item; raises HierfedError for an unknown one."""
        found = self._numbers.get(str(item))
        if found is None:
            raise HierfedError(f"no item '{item}' in this run's catalogue")
        return found

    def find(self, words: str, k: int) -> list[dict[str, Any]]:
        """The first k items whose titles hold all these words, in any case: item, title, year and genres."""
        found = self._items.with_columns(pl.col("item_id").cast(pl.String).alias("item"))
        text = pl.col("title").cast(pl.String).fill_null("").str.to_lowercase()
        for word in words.lower().split():
            found = found.filter(text.str.contains(word, literal=True))
        return found.select("item", "title", "year", "genres").head(k).to_dicts()

    def allowed(
        self, exclude: Sequence[Id], among: Sequence[Id] | None, genres: Sequence[str], years: tuple[int, int] | None
    ) -> Tensor | None:
        """The items that a list may hold, bool [items]; None for all."""
        if not exclude and among is None and not genres and years is None:
            return None
        allowed = torch.full((len(self._items),), among is None)
        allowed[[self.number(item) for item in among or ()]] = True
        allowed[[self.number(item) for item in exclude]] = False
        for genre in genres:
            if genre not in self._genres:
                raise HierfedError(f"no genre '{genre}'{nearest(genre, self._genres)} in this run's catalogue")
        if genres:
            allowed &= torch.stack([self._genres[genre] for genre in genres]).any(0)
        if years is not None:
            allowed &= torch.from_numpy(self._items["year"].is_between(*years).fill_null(value=False).to_numpy().copy())
        return allowed

    @property
    def _items(self) -> pl.DataFrame:
        return self._served.catalogue.frame

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {item: number for number, item in enumerate(self._served.ids)}

    @cached_property
    def _genres(self) -> dict[str, Tensor]:
        lists = self._items["genres"].cast(pl.List(pl.String))
        names = sorted(lists.explode().drop_nulls().unique())
        return {
            name: torch.from_numpy(lists.list.contains(name).fill_null(value=False).to_numpy().copy()) for name in names
        }
