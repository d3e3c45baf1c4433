"""A catalogue as a file is the catalogue, however it is stored; what is none is refused in one line."""

from __future__ import annotations

import polars as pl
import pytest

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.features import genre_flags
from hierfed.data.reading.catalogue_file import catalogue_bytes, catalogue_of_bytes, read_catalogue
from hierfed.data.reading.sources import load
from hierfed.errors import DataError

FULL = pl.DataFrame(
    {
        "item_id": [10, 20, 40],
        "title": ["Heat", None, 'Amélie, "the" film'],
        "year": pl.Series([1995, None, 2001], dtype=pl.Int32),
        "genres": [["Action", "Crime"], None, ["Comedy"]],
        "metadata_genres": [["Action"], ["Drama"], None],
        "popularity": [17.9, 0.1 + 0.2, None],
        "runtime": [170.0, 90.0, 1e-300],
        "vote_average": [7.7, None, 6.5],
        "vote_count": [1886.0, 0.0, 3.0],
        "revenue": [187436818.0, None, 0.0],
        "matched": [True, True, False],
    }
)
TEXT = pl.DataFrame({"item_id": ["0006", "B0", "a"], "title": ["x", "y", "z"]})


def refusal(path) -> str:
    with pytest.raises(DataError) as error:
        read_catalogue(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def as_csv(frame: pl.DataFrame) -> pl.DataFrame:
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    return frame.with_columns(pl.col(lists).list.join("|"))


@pytest.mark.parametrize("frame", [FULL, FULL.select("item_id", "title"), TEXT, TEXT.select("item_id")])
def test_parquet_and_csv_hold_the_same(tmp_path, frame):
    frame.write_parquet(tmp_path / "items.parquet")
    as_csv(frame).write_csv(tmp_path / "items.CSV")
    first, second = read_catalogue(tmp_path / "items.parquet"), read_catalogue(tmp_path / "items.CSV")
    assert first.frame.equals(second.frame)
    assert first.digest() == second.digest()
    assert first.frame.select(frame.columns).equals(frame)


def test_all_columns_are_there_with_their_types_and_nulls_for_what_is_not_known(tmp_path):
    FULL.select("item_id").write_parquet(tmp_path / "items.parquet")
    frame = read_catalogue(tmp_path / "items.parquet").frame
    assert dict(frame.schema) == {
        "item_id": pl.Int64,
        "title": pl.String,
        "year": pl.Int32,
        "genres": pl.List(pl.String),
        "metadata_genres": pl.List(pl.String),
        "matched": pl.Boolean,
    }
    assert frame["title"].null_count() == frame["genres"].null_count() == 3
    assert frame["matched"].to_list() == [False] * 3
    flags, names = genre_flags(Catalogue(frame))
    assert (flags.shape, names) == ((3, 0), ())


@pytest.mark.parametrize("name", NUMERIC_FEATURES)
def test_each_numeric_feature_is_optional_and_says_that_items_are_matched(tmp_path, name):
    FULL.select("item_id", name).write_parquet(tmp_path / "items.parquet")
    catalogue = read_catalogue(tmp_path / "items.parquet")
    assert catalogue.numeric_features == (name,)
    assert catalogue.frame[name].to_list() == FULL[name].to_list()
    assert catalogue.frame["matched"].to_list() == [True] * 3


def test_numbers_may_be_whole_and_other_columns_are_left_out(tmp_path):
    frame = FULL.select("item_id").with_columns(runtime=pl.Series([90, 91, None]), secret=pl.lit("x"))
    frame.write_csv(tmp_path / "items.csv")
    catalogue = read_catalogue(tmp_path / "items.csv")
    assert catalogue.frame["runtime"].to_list() == [90.0, 91.0, None]
    assert "secret" not in catalogue.frame.columns


@pytest.mark.parametrize("frame", [FULL, TEXT])
def test_items_are_numbered_in_the_order_of_their_ids(tmp_path, frame):
    frame.reverse().write_parquet(tmp_path / "items.parquet")
    found = read_catalogue(tmp_path / "items.parquet")
    assert found.frame["item_id"].to_list() == frame["item_id"].to_list()
    assert found.frame["title"].to_list() == frame["title"].to_list()


@pytest.mark.parametrize("kind", [pl.Int32, pl.UInt8, pl.UInt64])
def test_whole_ids_of_any_type_are_the_same_ids(tmp_path, kind):
    FULL.with_columns(pl.col("item_id").cast(kind)).write_parquet(tmp_path / "items.parquet")
    FULL.write_parquet(tmp_path / "other.parquet")
    assert read_catalogue(tmp_path / "items.parquet").digest() == read_catalogue(tmp_path / "other.parquet").digest()


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (pl.DataFrame({"item": [1]}), "no column 'item_id'"),
        (pl.DataFrame({"item_id": [1, 2, 1]}), "1 stands twice"),
        (pl.DataFrame({"item_id": ["a", "a"]}), "a stands twice"),
        (pl.DataFrame({"item_id": [1, None]}), "item 2, column item_id: found nothing, expected an id"),
        (pl.DataFrame({"item_id": [1.5, 2.0]}), "Float64"),
        (pl.DataFrame({"item_id": [True, False]}), "Boolean"),
        (pl.DataFrame({"item_id": ["a", " a "]}), "a stands twice"),
        (pl.DataFrame({"item_id": pl.Series([], dtype=pl.Int64)}), "holds no items"),
        (pl.DataFrame({"item_id": [1], "year": ["long ago"]}), "long ago"),
        (pl.DataFrame({"item_id": [1], "runtime": ["long"]}), "long"),
        (pl.DataFrame({"item_id": [1], "genres": [3]}), "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_catalogue_is_refused_in_one_line(tmp_path, frame, part):
    frame.write_parquet(tmp_path / "items.parquet")
    assert part in refusal(tmp_path / "items.parquet")


@pytest.mark.parametrize("name", ["items.parquet", "items.csv", "items"])
@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing", bytes(range(256))])
def test_files_of_other_kinds_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["nowhere.parquet", "nowhere.csv"])
def test_files_that_are_not_there_are_refused_in_one_line(tmp_path, name):
    refusal(tmp_path / name)


def test_a_catalogue_that_was_cut_off_is_refused_in_one_line(tmp_path):
    content = catalogue_bytes(Catalogue(FULL))
    (tmp_path / "items.parquet").write_bytes(content[: len(content) // 2])
    refusal(tmp_path / "items.parquet")


def test_the_digest_is_the_same_however_the_catalogue_is_stored(tmp_path):
    expected = Catalogue(FULL).digest()
    assert catalogue_of_bytes(catalogue_bytes(Catalogue(FULL))).digest() == expected
    for number, how in enumerate(
        [{}, {"compression": "uncompressed"}, {"compression": "gzip"}, {"row_group_size": 1}, {"statistics": False}]
    ):
        FULL.write_parquet(tmp_path / f"{number}.parquet", **how)
        assert read_catalogue(tmp_path / f"{number}.parquet").digest() == expected
    # In memory, too: cut into pieces, put together again, and built anew.
    pieces = Catalogue(pl.concat([FULL[:1], FULL[1:2], FULL[2:]], rechunk=False))
    assert pieces.digest() == expected
    assert Catalogue(pl.DataFrame(FULL.to_dict(as_series=False), schema=FULL.schema)).digest() == expected


CHANGES = {
    "item_id": [10, 20, 41],
    "title": ["Heat", "", 'Amélie, "the" film'],
    "year": pl.Series([1995, 0, 2001], dtype=pl.Int32),
    "genres": [["Action", "Crime"], [], ["Comedy"]],
    "metadata_genres": [["Action"], ["Drama"], [""]],
    "popularity": [17.9, 0.3, None],
    "runtime": [170.0, 90.0, 0.0],
    "vote_average": [7.7, 0.0, 6.5],
    "vote_count": [1886.0, 0.0, 3.0000000000000004],
    "revenue": [187436818.0, None, 1.0],
    "matched": [True, True, True],
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_changes_with_any_value_even_a_null_or_a_last_digit(name):
    changed = FULL.with_columns(pl.Series(name, CHANGES[name]))
    assert Catalogue(changed).digest() != Catalogue(FULL).digest()


@pytest.mark.parametrize(
    "changed",
    [
        FULL.rename({"popularity": "fame"}),
        FULL.drop("revenue"),
        FULL.head(2),
        FULL.reverse(),
        FULL.with_columns(genres=pl.Series([["Action Crime"], None, ["Comedy"]])),
        FULL.with_columns(genres=pl.Series([["Crime", "Action"], None, ["Comedy"]])),
        FULL.with_columns(title=pl.Series(["Heat,", None, 'Amélie, "the" film'])),
    ],
)
def test_the_digest_changes_with_names_rows_and_order(changed):
    assert Catalogue(changed).digest() != Catalogue(FULL).digest()


@pytest.mark.parametrize("join", [["none"], ["links"], ["paper"], ["title"]])
def test_the_catalogue_of_a_source_written_and_read_is_the_same(csv_folder, tmp_path, join):
    """Else a node that agrees to a written catalogue would refuse the server that wrote it."""
    catalogue = load(str(csv_folder / "ml" if join == ["none"] else csv_folder), join=join).catalogue
    (tmp_path / "items.parquet").write_bytes(catalogue_bytes(catalogue))
    found = read_catalogue(tmp_path / "items.parquet")
    assert found.digest() == catalogue.digest()
    assert found.frame.select(catalogue.frame.columns).equals(catalogue.frame)
    assert catalogue_of_bytes(catalogue_bytes(catalogue)).digest() == catalogue.digest()


def test_the_catalogue_of_a_bare_table_written_and_read_is_the_same(write, tmp_path):
    catalogue = load(write("r.csv", "user,item,rating\n1,b,1\n2,a,2\n")).catalogue
    (tmp_path / "items.parquet").write_bytes(catalogue_bytes(catalogue))
    assert read_catalogue(tmp_path / "items.parquet").digest() == catalogue.digest()
