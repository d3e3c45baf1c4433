"""Each source gives the ratings that stand in its files, densely numbered, with every row accounted for."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings


def triples(dataset) -> list[tuple]:
    """(user id, item id, rating) of each row, through the dense numbers."""
    users, items = dataset.user_ids.to_list(), dataset.catalogue.frame["item_id"].to_list()
    ratings = dataset.ratings
    return [(users[u], items[i], float(v)) for u, i, v in zip(ratings.user, ratings.item, ratings.value, strict=True)]


def test_a_folder_without_metadata_keeps_everything_by_user_and_item(csv_folder):
    dataset = load(str(csv_folder / "ml"))
    assert triples(dataset) == [(3, 10, 0.5), (3, 40, 5.0), (7, 10, 4.5), (7, 20, 3.0)]
    assert dataset.user_ids.to_list() == [3, 7]
    frame = dataset.catalogue.frame
    assert frame["item_id"].to_list() == [10, 20, 40]
    assert frame["title"].to_list() == ["Heat", "American President, The", "Amélie"]
    assert frame["year"].to_list() == [1995, 1995, 2001]
    assert frame["genres"].to_list() == [["Action", "Crime"], ["Comedy"], []]
    assert frame["matched"].to_list() == [False, False, False]
    assert dataset.ratings.time.tolist() == [1000000002, 1000000003, 1000000000, 1000000001]
    assert dataset.provenance.join.name == "none"
    assert dataset.test_rows is None


def test_columns_have_the_promised_types(csv_folder):
    ratings = load(str(csv_folder)).ratings
    assert (ratings.user.dtype, ratings.item.dtype) == (np.int32, np.int32)
    assert (ratings.value.dtype, ratings.time.dtype) == (np.float32, np.int64)


def test_a_file_beside_the_ratings_comes_before_one_elsewhere(csv_folder, write):
    write("links.csv", "movieId,imdbId,tmdbId\n40,1,949\n")
    assert load(str(csv_folder)).catalogue.frame["item_id"].to_list() == [10, 20]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_line_ends_byte_order_mark_and_separator_make_no_difference(write, ending, mark, separator):
    lines = ["user_id,item,rating,time", "5,1,3.5,100", "4,1,2,101", "", ""]
    dataset = load(write("r.csv", mark + ending.join(lines).replace(",", separator)))
    assert triples(dataset) == [(4, 1, 2.0), (5, 1, 3.5)]
    assert dataset.ratings.time.tolist() == [101, 100]


def test_a_mapping_applies_to_tables_and_folders(write):
    content = "who,what,stars,when\n1,10,4,100\n"
    columns = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
    for source in (write("r.csv", content), write("f/ratings.csv", content).removesuffix("/ratings.csv")):
        dataset = load(source, how=TableSettings(columns=columns))
        assert triples(dataset) == [(1, 10, 4.0)]
        assert dataset.ratings.time.tolist() == [100]


def test_text_ids_stay_text(write):
    dataset = load(write("r.tsv", "user\titem\trating\nB0\t0006\t1\nA9\t0007\t-2.5\n"))
    assert triples(dataset) == [("A9", "0007", -2.5), ("B0", "0006", 1.0)]
    assert dataset.user_ids.to_list() == ["A9", "B0"]
    assert dataset.ratings.time is None
    assert "user ids are text" in dataset.provenance.notes


@pytest.mark.parametrize(
    "text",
    [
        "978307200",
        "978307200.0",
        "2001-01-01",
        "2001-01-01T00:00:00Z",
        "2001-01-01 00:00:00",
        "2001-01-01T02:00:00+02:00",
    ],
)
def test_times_as_seconds_or_dates(write, text):
    assert load(write("r.csv", f"user,item,rating,timestamp\n1,1,1,{text}\n")).ratings.time.tolist() == [978307200]


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([978307200]),
        pl.Series([978307200.0]),
        pl.Series(["2001-01-01"]).str.to_date(),
        pl.Series(["2001-01-01"]).str.to_datetime("%Y-%m-%d", time_unit="ms"),
        pl.Series(["2001-01-01"]).str.to_datetime("%Y-%m-%d", time_zone="UTC"),
    ],
    ids=lambda series: str(series.dtype),
)
def test_parquet_with_times_of_any_type(tmp_path, times):
    path = tmp_path / "r.parquet"
    pl.DataFrame(
        {"userId": pl.Series(["x"]).cast(pl.Categorical), "movieId": [3], "rating": [2], "time": times}
    ).write_parquet(path)
    dataset = load(str(path))
    assert triples(dataset) == [("x", 3, 2.0)]
    assert dataset.ratings.time.tolist() == [978307200]


def test_a_test_table_is_marked_and_may_bring_new_users_and_items(write):
    train = write("train.csv", "user,item,rating\n1,1,1\n2,1,2\n")
    test = write("test.csv", "user,item,rating\nx,9,3\n1,9,4\n")
    dataset = load(train, test=test)
    assert dataset.test_rows.tolist() == [False, False, True, True]
    assert triples(dataset) == [("1", 1, 1.0), ("2", 1, 2.0), ("1", 9, 4.0), ("x", 9, 3.0)]
    assert [file.rows for file in dataset.provenance.files] == [2, 2]


def test_times_are_kept_only_where_both_tables_have_them(write):
    train = write("train.csv", "user,item,rating,time\n1,1,1,5\n")
    assert load(train, test=write("test.csv", "user,item,rating\n2,1,1\n")).ratings.time is None


def test_movielens_small_is_the_downloaded_folder(csv_folder, monkeypatch):
    monkeypatch.setattr("hierfed.data.reading.sources.fetch_movielens_small", lambda progress: csv_folder / "ml")
    assert len(load("movielens-small").ratings) == 4


ROWS = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 50), st.sampled_from([0.5, 1.0, 3.5, 5.0])),
    min_size=1,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, known=st.sets(st.integers(0, 50), min_size=1), unmatched=st.sampled_from(["keep", "drop"]))
def test_rows_in_are_rows_used_and_dropped(write, tmp_path, rows, known, unmatched):
    write("ratings.csv", "userId,movieId,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows))
    header = "id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue\n"
    write("movies_metadata.csv", header + "".join(f"{i},T,2000-01-01,[],1,1,1,1,1\n" for i in sorted(known)))
    wanted = [row for row in rows if unmatched == "keep" or row[1] in known]
    if not wanted:
        return
    dataset = load(str(tmp_path), join=["paper"], unmatched=unmatched)
    assert triples(dataset) == sorted(wanted)
    assert dataset.provenance.rows_in == len(rows) == len(dataset.ratings) + sum(dataset.provenance.dropped.values())
    assert dataset.user_ids.to_list() == sorted({u for u, _, _ in wanted})
    assert dataset.catalogue.frame["item_id"].to_list() == sorted({i for _, i, _ in wanted})
    assert dataset.catalogue.frame["matched"].to_list() == [i in known for i in sorted({i for _, i, _ in wanted})]
    assert dataset.provenance.join.kept == sum(i in known for _, i, _ in rows)
