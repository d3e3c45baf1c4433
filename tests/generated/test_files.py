"""A world as a folder: the same bytes for the same seed, read back as a source and a catalogue, whole or not there."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from hierfed.data.content import content_of
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.sources import load, read_ratings
from hierfed.errors import DataError, SettingsError
from hierfed.generated import files, world
from hierfed.generated.files import read_truth, world_numbers, write_world
from hierfed.generated.world import make_world

NUMBERS = {"users": 50, "items": 200, "ratings": 2500, "seed": 7}
NAMES = ("ratings.parquet", "items.parquet", "truth.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("generated") / "a" / "b"
    write_world(place, **NUMBERS)
    return place


def test_the_same_seed_gives_the_same_bytes_in_whatever_batches(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(world.World.batches, "__defaults__", (7,))
    write_world(tmp_path, **NUMBERS)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    write_world(tmp_path / "other", **NUMBERS | {"seed": 8})
    for name in NAMES:
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_ratings_have_their_columns_and_types(folder):
    frame = pl.read_parquet(folder / "ratings.parquet")
    assert dict(frame.schema) == {"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "time": pl.Int64}
    assert frame.height == 2500
    assert frame["user"].unique().sort().to_list() == list(range(1, 51))
    assert frame["item"].unique().sort().to_list() == list(range(1, 201))
    assert frame.equals(frame.sort("user", "time", maintain_order=True))


def test_read_back_as_a_source_it_is_the_world(folder):
    made = make_world(7, 50, 200, 2500)
    ratings = made.ratings_of(np.arange(50))
    dataset = load(str(folder))
    # A world's rows are in the order of time, and a data set's by user and item.
    order = np.lexsort((ratings.item, ratings.user))
    for name in ("user", "item", "value", "time"):
        assert (getattr(dataset.ratings, name) == getattr(ratings, name)[order]).all()
    assert dataset.user_ids.to_list() == list(range(1, 51))
    films, frame = made.films.frame(), dataset.catalogue.frame
    for name in ("item_id", "title", "year", "genres"):
        assert frame[name].to_list() == films[name].to_list()
    assert read_ratings(str(folder)).train.value.tolist() == ratings.value.tolist()
    provenance = dataset.provenance
    assert provenance.name == "generated: 50 users, 200 items, 2,500 ratings, seed 7"
    assert [(file.name, file.rows) for file in provenance.files] == [("ratings.parquet", 2500), ("items.parquet", 200)]
    assert [file.bytes for file in provenance.files] == [(folder / name).stat().st_size for name in NAMES[:2]]


def test_the_items_are_a_catalogue_that_a_server_takes(folder):
    assert read_catalogue(folder / "items.parquet").digest() == load(str(folder)).catalogue.digest()


def test_the_truth_is_read_back_whole(folder):
    made, read = make_world(7, 50, 200, 2500).truth, read_truth(folder)
    assert read.arrays().keys() == made.arrays().keys()
    for name, array in made.arrays().items():
        assert (read.arrays()[name] == array).all()
        assert read.arrays()[name].dtype == array.dtype
    assert world_numbers(folder / "truth.safetensors") == NUMBERS


def test_progress_is_told_up_to_all_ratings(tmp_path, monkeypatch):
    monkeypatch.setattr(world.World.batches, "__defaults__", (20,))
    told = []
    write_world(tmp_path, **NUMBERS, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 3
    assert told[-1] == (2500, 2500)
    assert told == sorted(told)


def test_a_folder_that_holds_something_is_left_alone(folder):
    before = {name: (folder / name).read_bytes() for name in NAMES}
    with pytest.raises(DataError, match=r"not empty, it holds (items|ratings|truth)"):
        write_world(folder, **NUMBERS | {"seed": 8})
    assert {name: (folder / name).read_bytes() for name in NAMES} == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path, **NUMBERS, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    write_world(tmp_path, **NUMBERS)


def test_impossible_numbers_make_no_folder(tmp_path):
    with pytest.raises(SettingsError):
        write_world(tmp_path / "new", users=50, items=200, ratings=10_001)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_is_told_in_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(ratings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "rating_frame", full)
    with pytest.raises(DataError) as caught:
        write_world(tmp_path, **NUMBERS)
    assert "\n" not in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_world(tmp_path / "file", **NUMBERS)


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", None])
def test_another_file_in_the_truth_s_place_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "truth.safetensors"
    if content is None:
        save_file({"mean": np.zeros(1)}, path, {"format": "hierfed hierarchical 2"})
    else:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_truth(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", [-1, -100])
def test_a_truth_with_a_flipped_bit_is_refused_in_one_line(tmp_path, place):
    write_world(tmp_path / "world", **NUMBERS)
    path = tmp_path / "world" / "truth.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged: its content is not what was written; make the world again"):
        read_truth(tmp_path / "world")


def test_a_sparse_world_without_content_has_users_of_few_ratings_and_items_of_no_word(tmp_path):
    world = write_world(tmp_path / "sparse", users=300, items=500, ratings=2_400, seed=1, least=5, content=False)
    counts = np.bincount(pl.read_parquet(tmp_path / "sparse" / "ratings.parquet")["user"].to_numpy() - 1)
    assert (len(counts), counts.sum(), counts.min()) == (300, 2_400, 5)
    assert np.array_equal(counts, world.audience.activity)
    data = load(str(tmp_path / "sparse"))
    assert (data.users, data.items) == (300, 500)
    assert not content_of(data.catalogue, vote_average=True).genres.any()
    with pytest.raises(SettingsError, match="each user has 5 or more, and each item 1 or more, which makes 1,500"):
        write_world(tmp_path / "less", users=300, items=500, ratings=1_499, least=5)


def test_kinds_are_in_the_truth_and_in_its_header(tmp_path):
    made = write_world(tmp_path, **NUMBERS, kinds=3)
    assert world_numbers(tmp_path / "truth.safetensors") == NUMBERS | {"kinds": 3}
    assert np.bincount(read_truth(tmp_path).kind).tolist() == [30, 15, 5]
    assert (read_truth(tmp_path).kind == made.truth.kind).all()
