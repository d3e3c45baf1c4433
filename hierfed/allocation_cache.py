"""Large data, read and divided once, are taken from the user's cache in the next run.

Two entries: the ratings, known by what is in their files and how they are read; and their division, known by the
ratings, the seed and the settings that divide. What is in the files is hashed in every run, so no change of a file goes
unseen, whatever its date.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed import __version__
from hierfed.allocation import Allocation, allocate, load_dataset, warnings_of, with_own_protocol
from hierfed.data.cache import Entry, prune, read_entry, user_cache, write_entry
from hierfed.data.catalogue import Catalogue
from hierfed.data.download import Progress
from hierfed.data.federation import Nodes, RowsByNode
from hierfed.data.files import hash_file
from hierfed.data.ratings import Dataset, JoinReport, Provenance, Ratings, SourceFile
from hierfed.data.sources import files_of
from hierfed.data.splits import Split
from hierfed.errors import DataError
from hierfed.settings import Settings

# Fewer rows are read and divided before a person notices, and would only fill the disk.
LEAST_ROWS = 1_000_000
# To be raised with every change of what an entry holds, or of how rows are read, numbered or divided.
_FORMAT = 2
_COLUMNS = ("user", "item", "value", "time")
_PARTS = ("train", "test", "personal_train", "personal_test", "unused")

Arrays = Mapping[str, np.ndarray]
Tell = Callable[[str], None]


def allocate_cached(
    settings: Settings,
    progress: Progress | None = None,
    tell: Tell = lambda line: None,
    *,
    place: Path | None = None,
    least_rows: int = LEAST_ROWS,
) -> Allocation:
    """Load and divide the data that the settings name, or take them from the cache, where large data are kept.

    progress: told of a download's bytes. tell: told in a line what was read from the cache or written to it, and each
    warning about the data. place: the folder of the entries, by default `cache_folder`.
    """
    allocation = _allocate(settings, progress, tell, place, least_rows)
    for warning in warnings_of(allocation):
        tell(f"warning: {warning}")
    return allocation


def _allocate(
    settings: Settings, progress: Progress | None, tell: Tell, place: Path | None, least_rows: int
) -> Allocation:
    hashes = _hash_files(settings, least_rows) if settings.data.cache else {}
    if not hashes:
        return allocate(load_dataset(settings, progress), settings)
    place = cache_folder() if place is None else place
    source = ratings_key(settings, hashes)
    ratings_folder = place / f"ratings-{source}"
    ratings = read_entry(ratings_folder)
    dataset = load_dataset(settings, progress) if ratings is None else _dataset_of(ratings)
    settings = with_own_protocol(settings, dataset)
    nodes_folder = place / f"nodes-{division_key(settings, source)}"
    nodes = None if ratings is None else read_entry(nodes_folder)
    allocation = allocate(dataset, settings) if nodes is None else _allocation_of(nodes, dataset, settings)
    # A file may have changed after it was hashed.
    as_hashed = {file.sha256 for file in dataset.provenance.files} <= set(hashes.values())
    if len(dataset.ratings) < least_rows or not as_hashed:
        return allocation
    try:
        if ratings is None:
            write_entry(ratings_folder, _entry_of_dataset(dataset))
        if nodes is None:
            write_entry(nodes_folder, _entry_of_division(allocation))
            prune(place)
    except OSError as error:
        tell(f"cache {place}: cannot be written: {error.strerror}")
    else:
        hint = "" if ratings and nodes else "; `hierfed data cache` shows and clears it"
        tell(f"cache {place}: ratings {_verb(ratings)}, nodes {_verb(nodes)}{hint}")
    return allocation


def cache_folder() -> Path:
    """Where the entries are kept: large data that were read, and their divisions among nodes."""
    return user_cache() / "federations"


def ratings_key(settings: Settings, hashes: Mapping[str, str]) -> str:
    """The name of the ratings that the settings read from files of these hashes, as of `_hash_files`."""
    data = settings.data
    versions = [_FORMAT, __version__, np.__version__, pl.__version__]
    names = [Path(data.source).name, Path(data.test).name]
    return _digest([versions, names, dict(hashes), data.query, data.join, data.unmatched, data.columns])


def division_key(settings: Settings, source: str) -> str:
    """The name of the ratings' division by the settings; source: the ratings' own name."""
    personal = settings.personalisation
    return _digest(
        [
            source,
            settings.seed,
            settings.split.model_dump(),
            settings.federation.model_dump(exclude={"participation"}),
            personal.personal_nodes,
            personal.personal_partition,
        ]
    )


def _hash_files(settings: Settings, least_rows: int) -> dict[str, str]:
    """The sha256 of each file that the data may come from; none where these are too small to hold so many rows."""
    files = files_of(settings.data.source, settings.data.test or None)
    try:
        # A rating takes a byte at least.
        if sum(path.stat().st_size for path in files.values()) < least_rows:
            return {}
        return {name: hash_file(path) for name, path in files.items()}
    except (OSError, DataError):  # who reads the data will say what is wrong
        return {}


def _digest(known: list[Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def _verb(entry: Entry | None) -> str:
    return "written" if entry is None else "read"


def _entry_of_dataset(dataset: Dataset) -> Entry:
    arrays = _arrays_of("all", dataset.ratings)
    if dataset.test_rows is not None:
        arrays["test_rows"] = dataset.test_rows
    frames = {"catalogue": dataset.catalogue.frame, "users": dataset.user_ids.to_frame()}
    return Entry(asdict(dataset.provenance), arrays, frames)


def _dataset_of(entry: Entry) -> Dataset:
    facts = entry.facts
    provenance = Provenance(
        **{
            **facts,
            "files": tuple(SourceFile(**file) for file in facts["files"]),
            "join": JoinReport(**facts["join"]),
            "notes": tuple(facts["notes"]),
        }
    )
    return Dataset(
        _ratings_of("all", entry.arrays),
        Catalogue(entry.frames["catalogue"]),
        entry.frames["users"].to_series(),
        provenance,
        entry.arrays.get("test_rows"),
    )


def _entry_of_division(allocation: Allocation) -> Entry:
    """The split and the nodes; parts, and nodes, that are one and the same are kept once."""
    arrays: dict[str, np.ndarray] = {}
    kept: dict[str, str] = {}
    for name in _PARTS:
        rows = getattr(allocation.split, name)
        kept[name] = next((other for other in arrays if arrays[other] is rows), name)
        arrays[kept[name]] = rows
    groups = {"nodes": allocation.nodes}
    if allocation.personal_nodes is not allocation.nodes:
        groups["personal"] = allocation.personal_nodes
    for group, nodes in groups.items():
        for part, rows in (("train", nodes.train), ("test", nodes.test)):
            arrays |= _arrays_of(f"{group}-{part}", rows.ratings)
            arrays[f"{group}-{part}-offsets"] = rows.offsets
    return Entry({"split": kept, "groups": list(groups)}, arrays, {})


def _allocation_of(entry: Entry, dataset: Dataset, settings: Settings) -> Allocation:
    arrays = entry.arrays
    made = []
    for group in entry.facts["groups"]:
        train, test = (
            RowsByNode(_ratings_of(f"{group}-{part}", arrays), arrays[f"{group}-{part}-offsets"])
            for part in ("train", "test")
        )
        made.append(Nodes(train, test, np.arange(len(train.offsets) - 1)))
    split = Split(**{name: arrays[part] for name, part in entry.facts["split"].items()})
    return Allocation(settings, dataset, split, made[0], made[-1])


def _arrays_of(prefix: str, ratings: Ratings) -> dict[str, np.ndarray]:
    columns = ((name, getattr(ratings, name)) for name in _COLUMNS)
    return {f"{prefix}-{name}": column for name, column in columns if column is not None}


def _ratings_of(prefix: str, arrays: Arrays) -> Ratings:
    return Ratings(*(arrays[f"{prefix}-{name}"] for name in _COLUMNS if f"{prefix}-{name}" in arrays))
