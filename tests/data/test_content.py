"""Public features of small catalogues, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.content import Content, content_of, letter_groups

NAN = float("nan")
COLUMNS: dict[str, list[Any]] = {
    "item_id": [1, 2, 3, 4],
    "title": ["Heat (1995)", "Amélie", None, "Heat Wave"],
    "year": [1995, 2001, None, 1975],
    "genres": [["Action", "Crime"], ["Comedy"], [], None],
    "metadata_genres": [["Action"], ["Comedy", "Science Fiction"], None, ["Family", "Music"]],
    "matched": [True, True, False, True],
    "popularity": [10.0, 3.0, None, 1.0],
    "runtime": [170.0, 20.0, None, 400.0],
    "vote_average": [7.5, 8.0, None, 2.0],
    "vote_count": [3000.0, 80.0, None, 0.0],
    "revenue": [187e6, 0.0, None, NAN],
}
TYPES = {
    "title": pl.String,
    "year": pl.Int32,
    "genres": pl.List(pl.String),
    "metadata_genres": pl.List(pl.String),
    **dict.fromkeys(NUMERIC_FEATURES, pl.Float64),
}


def catalogue(without: tuple[str, ...] = (), **changes: list[Any]) -> Catalogue:
    columns = {name: values for name, values in {**COLUMNS, **changes}.items() if name not in without}
    return Catalogue(pl.DataFrame(columns, schema_overrides={k: v for k, v in TYPES.items() if k in columns}))


def assert_finite(content: Content) -> None:
    for name in ("scalars", "genres", "unit_genres", "year_bumps", "vote", "votes", "year", "vote_average"):
        values = getattr(content, name)
        assert np.isfinite(values).all(), name
        assert len(values) == len(content) == 4
    assert content.scalars.shape == (4, len(content.names))


# Votes + 1, no more than 2000, as shares.
WEIGHTS = np.array([2000, 81, 1, 1]) / 2083


def standardised(values: np.ndarray) -> np.ndarray:
    centred = values - (WEIGHTS * values).sum()
    return centred / np.sqrt((WEIGHTS * centred**2).sum())


def test_scalars_by_hand():
    content = content_of(catalogue())
    assert_finite(content)
    smoothed = [(3000 * 7.5 + 128) / 3020, (80 * 8 + 128) / 100, 6.4, 6.4]
    np.testing.assert_allclose(content.vote_average, smoothed)
    vote = standardised(np.array(smoothed))
    votes = standardised(np.log([3001, 81, 1, 1]))
    # An unknown year is the median of those known.
    year = standardised(np.array([1995, 2001, 1995, 1975]))
    expected = {
        "vote_average": vote,
        "votes": votes,
        "popularity": standardised(np.log([11, 4, 1, 2])),
        "year": year,
        "year squared": year**2 - 1,
        # Too short to be true is unknown; the longest is cut.
        "runtime": standardised(np.array([170, 105, 105, 220])),
        "revenue": standardised(np.log([188, 1, 1, 1])),
        "vote_average x votes": vote * votes,
        "vote_average x year": vote * year,
        "vote_average squared": vote**2 - 1,
    }
    assert content.names == tuple(expected)
    np.testing.assert_allclose(content.scalars, np.column_stack([*expected.values()]), atol=1e-10)
    np.testing.assert_allclose(content.vote, vote)
    np.testing.assert_allclose(content.votes, votes)
    np.testing.assert_allclose(content.year, year)


def test_genres_are_the_mean_of_both_sources_and_centred_by_votes():
    content = content_of(catalogue())
    # Action, Comedy, Crime; and of the metadata's own: Family, History, Music. Item 3 has no metadata, item 4 only it.
    flags = np.array(
        [
            [1, 0, 0.5, 0, 0, 0],
            [0, 1, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 1],
        ]
    )
    np.testing.assert_allclose(content.genres, flags - WEIGHTS @ flags, atol=1e-12)
    root = np.sqrt(0.5)
    np.testing.assert_allclose(content.unit_genres, [[root, 0, root], [0, 1, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)


def test_genres_that_the_sources_call_otherwise_are_the_same():
    found = content_of(
        catalogue(
            genres=[["Sci-Fi"], ["Children"], ["Drama"], ["Drama"]],
            metadata_genres=[["Science Fiction"], ["Family"], ["Drama"], ["Drama"]],
        )
    )
    same = content_of(
        catalogue(
            genres=[["Sci-Fi"], ["Children"], ["Drama"], ["Drama"]],
            metadata_genres=[["Sci-Fi"], ["Children"], ["Drama"], ["Drama"]],
        )
    )
    np.testing.assert_array_equal(found.genres[:, :3], same.genres[:, :3])
    np.testing.assert_allclose(np.ptp(found.genres[:, :3], axis=0), 1)


def test_years_are_bumps_and_titles_lose_theirs():
    content = content_of(catalogue())
    years = np.array([1995, 2001, 1995, 1975])
    for column, centre in enumerate((1940, 1960, 1975, 1990, 2000, 2010, 2018)):
        np.testing.assert_allclose(content.year_bumps[:, column], np.exp(-((years - centre) ** 2) / 200))
    assert content.lower_titles == ("heat ", "amélie", "", "heat wave")
    titles = content.titles.toarray()
    np.testing.assert_allclose(np.linalg.norm(titles, axis=1), [1, 1, 0, 1])
    products = titles @ titles.T
    assert products[0, 3] > 0.1
    assert products[0, 1] == 0


def test_votes_can_be_left_out_of_everything():
    content, other = (
        content_of(catalogue(), vote_average=False),
        content_of(catalogue(vote_average=[1.0, 9.0, 3.0, 4.0]), vote_average=False),
    )
    assert_finite(content)
    assert not any("vote_average" in name for name in content.names)
    assert "votes" in content.names
    assert (content.vote == 0).all()
    assert (content.vote_average == 6.4).all()
    np.testing.assert_array_equal(content.scalars, other.scalars)
    used = content_of(catalogue())
    kept = [place for place, name in enumerate(used.names) if "vote_average" not in name]
    np.testing.assert_array_equal(content.scalars, used.scalars[:, kept])


def test_a_catalogue_without_metadata_has_no_scalars():
    content = content_of(catalogue(without=NUMERIC_FEATURES, metadata_genres=[None] * 4))
    assert_finite(content)
    assert content.names == ()
    assert content.scalars.shape == (4, 0)
    assert (content.vote == 0).all()
    assert (content.votes == 0).all()
    np.testing.assert_allclose(content.year, np.array([5, 11, 5, -15]) / 15)
    np.testing.assert_allclose(content.genres, content.unit_genres - content.unit_genres.mean(0))
    assert (content.vote_average == 6.4).all()


@pytest.mark.parametrize("name", ["popularity", "runtime", "vote_average", "revenue"])
def test_a_feature_that_the_catalogue_lacks_is_no_scalar(name: str):
    content = content_of(catalogue(without=(name,)))
    assert_finite(content)
    assert not any(name in scalar for scalar in content.names)
    assert (np.ptp(content.scalars, axis=0) > 0).all()


@pytest.mark.parametrize("metadata", [True, False])
def test_a_catalogue_without_genres_titles_and_years(metadata: bool):
    changes = {"genres": [None] * 4, "title": [None] * 4, "year": [None] * 4, "metadata_genres": [None] * 4}
    content = content_of(catalogue(without=() if metadata else NUMERIC_FEATURES, **changes))
    assert_finite(content)
    assert content.genres.shape == content.unit_genres.shape == (4, 0)
    assert content.year_bumps.shape == (4, 0)
    assert not content.titled
    assert content.titles is None
    assert len(np.unique(content.year)) == 1
    assert not any("year" in name for name in content.names)


def test_titles_without_any_letter_are_no_titles():
    content = content_of(catalogue(title=["(1995)", "", "...", None]))
    assert not content.titled
    assert content.titles is None


def test_numbers_that_are_none_are_as_unknown_as_those_that_are_not_there():
    nulls: dict[str, list[Any]] = {name: [5.0, None, 60.0, None] for name in NUMERIC_FEATURES}
    nans = {name: [NAN if value is None else value for value in values] for name, values in nulls.items()}
    one, other = content_of(catalogue(**nulls)), content_of(catalogue(**nans))
    assert_finite(one)
    assert one.names == other.names
    np.testing.assert_array_equal(one.scalars, other.scalars)
    assert_finite(content_of(catalogue(**{name: [None] * 4 for name in NUMERIC_FEATURES})))


def test_one_item_has_finite_features():
    one = Catalogue(catalogue().frame[:1])
    content = content_of(one)
    assert len(content) == 1
    for name in ("scalars", "genres", "unit_genres", "year_bumps", "vote", "votes", "year"):
        assert np.isfinite(getattr(content, name)).all()


@given(st.lists(st.text("abcdé .-'", max_size=14), min_size=1, max_size=8))
def test_letter_groups_are_those_of_scikit_learn(titles):
    theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 6), sublinear_tf=True)
    assume(any(title.split() for title in titles))
    np.testing.assert_allclose(
        letter_groups(tuple(titles)).toarray(), theirs.fit_transform(titles).toarray(), rtol=1e-12
    )
