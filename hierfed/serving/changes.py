"""The changes that new data make in a run: its catalogue, and the ratings of its users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.division import load_dataset
from hierfed.data.growing import with_further_items
from hierfed.data.ids import places
from hierfed.data.ratings import concatenated
from hierfed.data.reading.own import OwnRatings, own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.data.settings import DataSettings
from hierfed.settings import Settings


def data_settings(folder: Path, served: Settings) -> DataSettings:
    """The form of a run's tables; that of the model, where the run kept no settings of its own."""
    from hierfed.settings import load_settings  # noqa: PLC0415

    path = folder / "settings.toml"
    return load_settings(path).data if path.is_file() else served.data


def grown(catalogue: Catalogue, source: str, how: DataSettings, settings: Settings) -> Catalogue:
    """The catalogue with the items that it lacks after its own, whose numbers stay; described as the source allows.

    how: the form of the source's tables.
    """
    read = read_ratings(source, how=how)
    known = catalogue.frame["item_id"]
    rated = pl.concat([part.item.ids.cast(pl.String) for part in (read.train, read.test) if part is not None])
    if not places(rated.unique(), known).is_null().any():
        return catalogue
    data = how.model_copy(update={"source": source, "query": "", "test": ""})
    described = load_dataset(settings.model_copy(update={"data": data})).catalogue.frame
    return with_further_items(catalogue, described)


@dataclass(frozen=True)
class NamedRows:
    """A source's rows, with the users' own ids and item numbers.

    rated: columns user, item, rating and time. seen: columns user and item, of what is no rating.
    unknown: the number of ratings left out, of items that the catalogue lacks.
    """

    rated: pl.DataFrame
    seen: pl.DataFrame
    unknown: int

    @property
    def users(self) -> pl.Series:
        """The users who have a row, some twice."""
        return pl.concat([self.rated["user"], self.seen["user"]])


def rows_of(source: str, how: DataSettings, catalogue: Catalogue) -> NamedRows:
    """A source's rows of items that the catalogue has."""
    own = own_ratings(read_ratings(source, how=how), catalogue)
    return NamedRows(table_of(own), seen_of(own), own.unknown)


def seen_of(own: OwnRatings) -> pl.DataFrame:
    """What users have seen and not rated, with the users' own ids and item numbers: columns user and item."""
    pairs = pl.DataFrame(own.seen, schema={"number": pl.Int32, "item": pl.Int32})
    raters = pairs.select(own.user_ids.cast(pl.String).gather(pairs["number"]).alias("user"), "item")
    alone = [(user, item) for user, items in own.seen_alone.items() for item in items]
    return pl.concat([raters, pl.DataFrame(alone, schema=raters.schema, orient="row")])


def table_of(own: OwnRatings) -> pl.DataFrame:
    """Ratings with the users' own ids and item numbers: columns user, item, rating, time."""
    rows = concatenated([own.train, own.test])
    time = pl.Series("time", rows.time, pl.Int64) if rows.time is not None else pl.lit(None, pl.Int64).alias("time")
    frame = pl.DataFrame({"number": rows.user, "item": rows.item, "rating": rows.value})
    ids = own.user_ids.cast(pl.String)
    return frame.select(
        ids.gather(frame["number"]).alias("user"), pl.col("item").cast(pl.Int32), pl.col("rating").cast(pl.Float32)
    ).with_columns(time)
