"""Synthetic films: years, genres and titles, and the part of quality and popularity that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from hierfed.generated.tails import attractions
from hierfed.randomness import generator

# The constants below were measured on ml-latest-small of October 2016. For each genre: the share of films with it, the
# increase of its films' ratings, in stars, and of their popularity, in logarithms of raters.
GENRES = {
    "Drama": (0.478, 0.23, 0.09),
    "Comedy": (0.365, -0.05, 0.24),
    "Thriller": (0.189, -0.03, 0.42),
    "Action": (0.170, -0.13, 0.31),
    "Romance": (0.170, -0.03, 0.26),
    "Adventure": (0.123, 0.00, 0.44),
    "Crime": (0.121, 0.06, 0.21),
    "Horror": (0.096, -0.10, -0.27),
    "Sci-Fi": (0.087, -0.07, 0.57),
    "Fantasy": (0.072, -0.03, 0.25),
    "Children": (0.064, -0.21, 0.24),
    "Mystery": (0.059, 0.07, 0.30),
    "Documentary": (0.054, 0.60, -0.32),
    "Animation": (0.049, 0.33, -0.19),
    "Musical": (0.043, -0.07, 0.23),
    "War": (0.040, 0.06, 0.27),
    "Western": (0.019, 0.06, 0.21),
    "IMAX": (0.017, -0.05, 1.06),
    "Film-Noir": (0.013, 0.06, -0.06),
}
# Shares of films with one genre, two, and so on.
GENRES_PER_FILM = (0.305, 0.334, 0.232, 0.094, 0.029, 0.006)
# The quantile function of years, and the popularity of a year's films, in logarithms of raters.
YEAR_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
YEAR_QUANTILES = (1902, 1932, 1950, 1963, 1980, 1988, 1994, 1997, 2006, 2011, 2013, 2015, 2016)
POPULAR_YEARS = (1900, 1940, 1960, 1980, 1992, 2000, 2008, 2016)
YEAR_POPULARITY = (-1.61, -0.80, -0.70, -0.50, 0.10, 0.05, -0.96, -1.44)
# Spread of the random part of popularity, and increase of popularity with quality, given genres and year.
CHANCE_POPULARITY, QUALITY_POPULARITY = 1.45, 2.0
# Old films that are still watched are better: stars per year before OLD.
OLD, OLDER_IS_BETTER = 1995, 0.010
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Films:
    """Films by number.

    year: int32 [items].
    genres: float64 0/1 [items, genres], in the order of GENRES.
    titles: one per item.
    """

    year: np.ndarray
    genres: np.ndarray
    titles: tuple[str, ...]

    def quality(self) -> np.ndarray:
        """The part of a film's bias that genres and year explain, in stars, float64 [items], centred."""
        effects = np.array([rated for _, rated, _ in GENRES.values()])
        known = self.genres @ effects + OLDER_IS_BETTER * np.maximum(OLD - self.year, 0)
        centred: np.ndarray = known - known.mean()
        return centred

    def rank(self, seed: int, surprise: np.ndarray) -> np.ndarray:
        """The rank of each film in popularity, from 0: int64 [items].

        surprise: the part of a film's bias that its content does not explain, [items].
        """
        effects = np.array([popular for _, _, popular in GENRES.values()])
        chance = generator(seed, 0, 0, "generated popularity").standard_normal(len(self.year))
        popularity = (
            np.interp(self.year, POPULAR_YEARS, YEAR_POPULARITY)
            + self.genres @ effects
            + QUALITY_POPULARITY * surprise
            + CHANCE_POPULARITY * chance
        )
        rank = np.empty(len(popularity), dtype=np.int64)
        rank[np.argsort(-popularity, kind="stable")] = np.arange(len(popularity))
        return rank

    def frame(self) -> pl.DataFrame:
        """`item_id` from 1, `title`, `year` and `genres`, as `read_catalogue` takes them."""
        names = np.array(list(GENRES))
        lists = [names[flags].tolist() for flags in self.genres > 0]
        return pl.DataFrame(
            {
                "item_id": np.arange(1, len(self.year) + 1, dtype=np.int32),
                "title": self.titles,
                "year": self.year,
                "genres": pl.Series(lists, dtype=pl.List(pl.String)),
            }
        )


def make_films(seed: int, items: int) -> Films:
    """Draw this number of films."""
    year = np.interp(generator(seed, 0, 0, "generated years").random(items), YEAR_SHARES, YEAR_QUANTILES)
    return Films(np.round(year).astype(np.int32), _genres(seed, items), _titles(seed, items))


def _genres(seed: int, items: int) -> np.ndarray:
    chance = generator(seed, 0, 0, "generated genres")
    numbers = chance.choice(np.arange(1, len(GENRES_PER_FILM) + 1), items, p=GENRES_PER_FILM)
    shares = np.array([share for share, _, _ in GENRES.values()])
    # A film draws its genres as a user draws films: without replacement, the first to arrive in a race.
    weights = attractions(shares / shares.sum() * numbers.sum(), numbers)
    race = chance.standard_exponential((items, len(shares))) / weights
    place = np.argsort(np.argsort(race, axis=1), axis=1)
    return (place < numbers[:, None]).astype(np.float64)


def _titles(seed: int, items: int) -> tuple[str, ...]:
    """Titles of two made-up words each, so that titles are alike by chance only."""
    syllables = np.array([first + second for first in CONSONANTS for second in VOWELS])
    drawn = syllables[generator(seed, 0, 0, "generated titles").integers(len(syllables), size=(items, 5))]
    return tuple(f"{''.join(row[:2])} {''.join(row[2:])}".title() for row in drawn.tolist())
