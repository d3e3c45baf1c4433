"""A catalogue that grows: items keep their numbers, and new ones follow."""

from __future__ import annotations

import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.ids import alike, places


def with_further_items(catalogue: Catalogue, described: pl.DataFrame) -> Catalogue:
    """The catalogue with the described items that it lacks after its own, whose numbers and descriptions stay.

    described: a catalogue's frame; of its columns those count that the catalogue has.
    """
    new = described.filter(places(described["item_id"], catalogue.frame["item_id"]).is_null())
    if new.is_empty():
        return catalogue
    ids, others = alike(catalogue.frame["item_id"], new["item_id"])
    frame = catalogue.frame.with_columns(ids)
    missing = [pl.lit(None, kind).alias(name) for name, kind in frame.schema.items() if name not in new.columns]
    new = new.with_columns(others).with_columns(missing)
    return Catalogue(pl.concat([frame, new.select(pl.col(name).cast(kind) for name, kind in frame.schema.items())]))
