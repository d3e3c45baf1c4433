"""A folder with a table of ratings and a catalogue: found, joined by id, and all that is not used is said."""

from __future__ import annotations

import hashlib

import polars as pl
import pytest

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

TABLE = pl.DataFrame({"user": [7, 7, 3], "item": [10, 20, 40], "rating": [4.5, 3.0, 0.5]})
ITEMS = pl.DataFrame(
    {"item_id": [20, 10, 99], "title": ["B", "A", "Unrated"], "year": [1990, None, 2000], "genres": [["War"], [], None]}
)


@pytest.fixture
def folder(tmp_path):
    TABLE.write_parquet(tmp_path / "ratings.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    return tmp_path


def test_items_are_described_by_the_catalogue_where_it_knows_them(folder):
    dataset = load(str(folder))
    frame = dataset.catalogue.frame
    assert frame["item_id"].to_list() == [10, 20, 40]
    assert frame["title"].to_list() == ["A", "B", None]
    assert frame["year"].to_list() == [None, 1990, None]
    assert frame["genres"].to_list() == [[], ["War"], None]
    assert dataset.ratings.value.tolist() == [0.5, 4.5, 3.0]
    assert dataset.provenance.notes == ("1 rated items are not in items.parquet: no title, year or genres",)
    assert dataset.provenance.name == "ratings.parquet"
    assert dataset.provenance.licence.startswith("not known")


def test_provenance_holds_both_files_exactly(folder):
    found = load(str(folder)).provenance.files
    for file, rows in zip(found, (3, 3), strict=True):
        raw = (folder / file.name).read_bytes()
        assert (file.bytes, file.sha256, file.rows) == (len(raw), hashlib.sha256(raw).hexdigest(), rows)


def test_without_a_catalogue_nothing_is_known_of_the_items(folder):
    (folder / "items.parquet").unlink()
    dataset = load(str(folder))
    assert dataset.catalogue.frame["title"].to_list() == [None, None, None]
    assert [file.name for file in dataset.provenance.files] == ["ratings.parquet"]


def test_columns_of_the_catalogue_that_are_not_used_are_named(folder):
    ITEMS.with_columns(runtime=90.0, revenue=pl.lit(None, pl.Float64)).write_parquet(folder / "items.parquet")
    assert "items.parquet: runtime are not used" in load(str(folder)).provenance.notes


def test_columns_are_mapped_and_a_table_of_test_ratings_is_read(folder):
    TABLE.rename({"user": "who"}).write_parquet(folder / "ratings.parquet")
    TABLE.select(who="user", item=pl.lit(99), rating="rating").head(1).write_parquet(folder / "test.parquet")
    dataset = load(str(folder), how=TableSettings(columns={"user": "who"}), test=str(folder / "test.parquet"))
    assert dataset.test_rows.tolist() == [False, False, False, True]
    assert dataset.catalogue.frame["title"].to_list() == ["A", "B", None, "Unrated"]


@pytest.mark.parametrize("kind", [pl.String, pl.UInt8, pl.Categorical])
def test_ids_of_another_type_are_the_same_ids(folder, kind):
    ITEMS.with_columns(pl.col("item_id").cast(pl.String).cast(kind)).write_parquet(folder / "items.parquet")
    assert load(str(folder)).catalogue.frame["title"].to_list() == ["A", "B", None]


def test_a_list_of_items_with_other_ids_is_told_of(folder):
    ITEMS.with_columns(item_id="00" + pl.col("item_id").cast(pl.String)).write_parquet(folder / "items.parquet")
    dataset = load(str(folder))
    assert dataset.catalogue.frame["title"].to_list() == [None] * 3
    assert dataset.provenance.warnings == (
        "3 of 3 rated item ids are not in the source's list of items: not there are '10' and '20', there are "
        "'0010' and '0020', for instance; ids are compared as they are written",
    )


def test_a_folder_with_two_kinds_of_ratings_is_refused(folder):
    (folder / "ratings.csv").write_text("userId,movieId,rating\n1,1,1\n")
    with pytest.raises(DataError, match="several data sets"):
        load(str(folder))


def test_it_is_found_one_level_down(folder, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    folder.rename(above / "shop")
    assert load(str(above)).ratings.value.tolist() == [0.5, 4.5, 3.0]
