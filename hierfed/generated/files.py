"""A generated world as a folder: ratings, items and the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from hierfed.atomic import written_atomically
from hierfed.errors import DataError, reason_of
from hierfed.generated.tails import LEAST_ACTIVITY
from hierfed.generated.truth import Truth
from hierfed.generated.world import World, make_world, rating_frame
from hierfed.sealed import MALFORMED, sealed_tensors, tensor_facts

RATINGS, ITEMS, TRUTH = "ratings.parquet", "items.parquet", "truth.safetensors"
FORMAT = "hierfed generated ratings 1"
ROW_GROUP = 1 << 20
Made = Callable[[int, int | None], None]


def write_world(
    folder: Path,
    *,
    users: int,
    items: int,
    ratings: int,
    seed: int = 0,
    least: int = LEAST_ACTIVITY,
    content: bool = True,
    drift: float = 0.0,
    kinds: int = 1,
    progress: Made | None = None,
) -> World:
    """Make a world and write it into a new folder; the same numbers and seed give the same bytes.

    `ratings.parquet` has columns user, item (int32, ids from 1), rating (float32) and time (int64), sorted by user and
    time, in groups of 2^20 rows. `items.parquet` is as `read_catalogue` takes it. `truth.safetensors` holds the arrays
    of Truth, float64, in the order of the ids. Either all three files are written whole, or none.

    least: ratings of each user, at least.
    content: False leaves titles, years and genres out of `items.parquet`.
    drift: of the truth, in radians a year.
    kinds: of users' tastes; see draw_truth.
    progress: called with the number of ratings made so far, and of all.
    Raises SettingsError for numbers that no world can have, and DataError if the folder is not empty or cannot be
    written.
    """
    world = make_world(seed, users, items, ratings, least, drift, kinds)

    def frames(*_: object) -> Iterator[pl.DataFrame]:
        made = 0
        for batch in world.batches():
            yield rating_frame(batch)
            made += len(batch)
            if progress is not None:
                progress(made, ratings)

    # One entry, since safetensors writes several in a random order.
    numbers: dict[str, int | float] = {"users": users, "items": items, "ratings": ratings, "seed": seed}
    if least != LEAST_ACTIVITY:
        numbers["least"] = least
    if drift:
        numbers["drift"] = drift
    if kinds > 1:
        numbers["kinds"] = kinds
    header = {FORMAT: json.dumps(numbers)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = next(folder.iterdir(), None)
        if there is not None:
            raise DataError(f"{folder}: not empty, it holds {there.name}; generated data go into a folder of their own")
        # All files or none. The ratings come last, since a folder without them is no data set.
        with (
            written_atomically(folder / RATINGS) as ratings_path,
            written_atomically(folder / TRUTH) as truth_path,
            written_atomically(folder / ITEMS) as items_path,
        ):
            films = world.films.frame()
            (films if content else films.select("item_id")).write_parquet(items_path)
            truth_path.write_bytes(sealed_tensors(save(world.truth.arrays(), header)))
            schema = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "time": pl.Int64}
            register_io_source(frames, schema=schema).sink_parquet(ratings_path, row_group_size=ROW_GROUP)
    except (OSError, pl.exceptions.ComputeError) as error:
        raise DataError(f"{folder}: cannot be written ({reason_of(error)})") from error
    return world


def read_truth(folder: Path) -> Truth:
    """The truth that `write_world` wrote. Raises DataError for a file that is no truth, or is not as it was written."""
    path = folder / TRUTH
    world_numbers(path)
    content = path.read_bytes()
    try:
        tensor_facts(content)
        return Truth.of(load(content))
    except (SafetensorError, *MALFORMED) as error:
        raise DataError(f"{path}: damaged: {error}; make the world again") from error


def world_numbers(path: Path) -> dict[str, int]:
    """Users, items, ratings and seed of the world with this truth. Raises DataError for a file that is no truth."""
    try:
        with safe_open(path, framework="numpy") as file:
            header: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as the truth of generated ratings ({reason_of(error)})") from error
    if FORMAT not in header:
        raise DataError(f"{path}: not the truth of generated ratings in the format {FORMAT!r}")
    numbers: dict[str, int] = json.loads(header[FORMAT])
    return numbers
