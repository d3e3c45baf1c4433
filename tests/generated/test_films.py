"""Made-up films: genres and years as often as measured, popularity in the order of what makes it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hierfed.generated.films import GENRES, GENRES_PER_FILM, YEAR_QUANTILES, YEAR_SHARES, Films, make_films


@pytest.fixture(scope="module")
def films() -> Films:
    return make_films(3, 20_000)


def test_genres_and_years_are_as_often_as_measured(films):
    shares = np.array([share for share, _, _ in GENRES.values()])
    assert films.genres.mean(0) == pytest.approx(shares, rel=0.15)
    numbers = films.genres.sum(1).astype(int)
    assert numbers.min() == 1
    assert np.bincount(numbers)[1:] / len(numbers) == pytest.approx(GENRES_PER_FILM, abs=0.012)
    assert np.quantile(films.year, YEAR_SHARES) == pytest.approx(YEAR_QUANTILES, abs=2)


def test_quality_is_what_genres_and_years_add():
    flags = np.zeros((3, len(GENRES)))
    flags[0, list(GENRES).index("Drama")] = flags[1, list(GENRES).index("Horror")] = 1
    quality = Films(np.array([2000, 2010, 1945]), flags, ("a", "b", "c")).quality()
    assert quality.sum() == pytest.approx(0)
    assert quality[0] - quality[1] == pytest.approx(0.23 + 0.10)
    assert quality[2] - quality[1] == pytest.approx(0.10 + 50 * 0.010)


def test_better_films_and_those_of_popular_genres_rank_higher(films):
    plain = films.rank(0, np.zeros(len(films.year)))
    assert sorted(plain.tolist()) == list(range(len(films.year)))
    surprise = np.where(np.arange(len(films.year)) % 2, 0.4, -0.4)
    tied = films.rank(0, surprise)
    assert tied[1::2].mean() < tied[::2].mean() - 2000
    assert (tied < plain)[1::2].mean() > 0.9
    imax = films.genres[:, list(GENRES).index("IMAX")] > 0
    assert plain[imax].mean() < plain[~imax].mean() - 2000


def test_the_frame_has_an_id_a_title_a_year_and_genres_each(films):
    frame = films.frame()
    assert frame["item_id"].to_list() == list(range(1, 20_001))
    assert all(re.fullmatch(r"[A-Z][a-z]{3} [A-Z][a-z]{5}", title) for title in frame["title"])
    assert frame["title"].n_unique() > 19_900
    assert (frame["year"].to_numpy() == films.year).all()
    names = list(GENRES)
    for row in (0, 1, 19_999):
        assert frame["genres"][row].to_list() == [names[place] for place in np.flatnonzero(films.genres[row])]
