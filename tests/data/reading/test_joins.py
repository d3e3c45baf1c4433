"""The joins on small films whose right answer is known, and on the real files by their published counts."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hierfed.data.reading.sources import load

NUMBERS = ["popularity", "runtime", "vote_average", "vote_count", "revenue"]


def test_links_gives_each_film_its_own_metadata(csv_folder):
    dataset = load(str(csv_folder))
    frame = dataset.catalogue.frame
    assert frame["item_id"].to_list() == [10, 20]
    assert frame["metadata_genres"].to_list() == [["Action", "Crime"], ["Comedy"]]
    assert frame.select(NUMBERS).row(0) == (17.9, 170.0, 7.7, 1886.0, 187436818.0)
    assert dataset.provenance.join.name == "links"
    assert dataset.provenance.dropped == {"no metadata (join links)": 1}
    assert dataset.provenance.join.warning == ""
    assert [file.name for file in dataset.provenance.files] == [
        "ratings.csv",
        "movies.csv",
        "links.csv",
        "movies_metadata.csv",
    ]


def test_kept_unmatched_films_are_flagged_and_null(csv_folder):
    dataset = load(str(csv_folder), unmatched="keep")
    frame = dataset.catalogue.frame
    assert frame["matched"].to_list() == [True, True, False]
    assert frame.select("metadata_genres", *NUMBERS).row(2) == (None,) * 6
    assert dataset.provenance.dropped == {}
    assert dataset.provenance.join.kept == 3


def test_paper_joins_unrelated_ids_says_so_and_counts_doubled_rows(csv_folder):
    dataset = load(str(csv_folder), join=["paper"])
    join = dataset.provenance.join
    assert dataset.catalogue.frame["title"].to_list() == ["Heat"]
    assert dataset.catalogue.frame["metadata_genres"].to_list() == [["Drama"]]
    assert (join.kept, join.kept_before_deduplication, join.items) == (2, 4, 1)
    assert "the metadata of other films" in join.warning
    assert "join paper: 'Heat', for one, gets the metadata of 'Wrong Film'" in dataset.provenance.notes
    # Of metadata rows with the same id the first counts, which has no runtime.
    assert dataset.catalogue.frame["runtime"].to_list() == [None]


def test_title_finds_films_by_name_and_keeps_the_rest(csv_folder):
    dataset = load(str(csv_folder), join=["title"])
    assert dataset.catalogue.frame["matched"].to_list() == [True, True, False]
    assert len(dataset.ratings) == 4


def test_none_joins_nothing(csv_folder):
    dataset = load(str(csv_folder), join=["none"])
    assert dataset.catalogue.numeric_features == ()
    assert dataset.provenance.join.kept == 0


def test_without_links_the_first_join_is_the_papers(csv_folder):
    (csv_folder / "ml" / "links.csv").unlink()
    assert load(str(csv_folder)).provenance.join.name == "paper"


def test_real_links(real_data):
    dataset = load(real_data)
    assert (len(dataset.ratings), dataset.items, dataset.users) == (99_810, 9_025, 671)
    assert dataset.provenance.rows_in == 100_004
    assert dataset.provenance.dropped == {"no metadata (join links)": 194}
    assert any("October 2016" in note for note in dataset.provenance.notes)


def test_real_paper_join(real_data):
    dataset = load(real_data, join=["paper"])
    join = dataset.provenance.join
    assert (join.kept_before_deduplication, join.kept, join.items) == (44_994, 44_989, 2_830)
    assert len(dataset.ratings) == 44_989


@pytest.mark.parametrize("join", ["links", "paper"])
def test_real_metadata_are_those_of_a_plain_dictionary(real_data, join):
    folder = Path(real_data)
    with (folder / "the-movies-dataset" / "movies_metadata.csv").open(encoding="utf-8", newline="") as file:
        metadata: dict[str, dict[str, str]] = {}
        for row in csv.DictReader(file):
            metadata.setdefault(row["id"], row)
    with (folder / "movielens-small" / "links.csv").open(newline="") as file:
        links = {row["movieId"]: row["tmdbId"] for row in csv.DictReader(file)}
    frame = load(real_data, join=[join]).catalogue.frame
    for item, genres, votes, revenue in frame.select("item_id", "metadata_genres", "vote_count", "revenue").iter_rows():
        row = metadata[links[str(item)] if join == "links" else str(item)]
        assert (votes, revenue) == tuple(float(row[name]) if row[name] else None for name in ("vote_count", "revenue"))
        assert [f"'name': '{genre}'" in row["genres"] for genre in genres] == [True] * row["genres"].count("'name'")


def test_real_ratings_are_those_of_the_file(real_data):
    with (Path(real_data) / "movielens-small" / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dataset = load(real_data, unmatched="keep")
    ratings = dataset.ratings
    assert dataset.user_ids.to_numpy()[ratings.user].tolist() == [int(row["userId"]) for row in rows]
    items = dataset.catalogue.frame["item_id"].to_numpy()
    assert items[ratings.item].tolist() == [int(row["movieId"]) for row in rows]
    assert np.array_equal(ratings.value, np.array([row["rating"] for row in rows], dtype=np.float32))
    assert ratings.time.tolist() == [int(row["timestamp"]) for row in rows]
