"""A world of users and films from four numbers: the pairs that are rated, the ratings, and their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from hierfed.data.ratings import Ratings
from hierfed.errors import SettingsError
from hierfed.generated.films import Films, make_films
from hierfed.generated.pairs import Audience, gather
from hierfed.generated.tails import LEAST_ACTIVITY, activities, expected_raters
from hierfed.generated.times import HALF_STARS_SINCE, first_times, rating_times
from hierfed.generated.truth import KIND_SHARES, Truth, draw_truth
from hierfed.randomness import ragged_bits, stream_keys, uniforms

USERS_AT_ONCE = 4096
MOST_DRIFT = 10.0


@dataclass(frozen=True)
class World:
    """The quantities drawn before any rating: films, truth, audience, and each user's first time [users]."""

    films: Films
    truth: Truth
    audience: Audience
    first_times: np.ndarray

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.first_times)

    @property
    def items(self) -> int:
        """Number of films."""
        return len(self.films.year)

    def ratings_of(self, users: np.ndarray) -> Ratings:
        """The ratings of these users, user after user, each user's in the order of time.

        A user's ratings do not depend on the other users asked for.
        """
        seed, activity = self.audience.seed, self.audience.activity[users]
        owner = np.repeat(users, activity)
        films = self.audience.films(users)
        # Films were drawn with the popular ones first; users rate them in a random order.
        shuffle = ragged_bits(stream_keys(seed, 0, users, "generated order"), activity)
        films = films[np.lexsort((shuffle, np.repeat(np.arange(len(users)), activity)))]
        chance = ndtri(uniforms(ragged_bits(stream_keys(seed, 0, users, "generated noise"), activity)))
        time = rating_times(seed, users, self.first_times[users], activity)
        value = self.truth.ratings(owner, films, chance, time)
        return Ratings(owner.astype(np.int32), films.astype(np.int32), value, time)

    def batches(self, users_at_once: int = USERS_AT_ONCE) -> Iterator[Ratings]:
        """All ratings, `users_at_once` users at a time."""
        for begin in range(0, self.users, users_at_once):
            yield self.ratings_of(np.arange(begin, min(begin + users_at_once, self.users)))


def make_world(
    seed: int, users: int, items: int, ratings: int, least: int = LEAST_ACTIVITY, drift: float = 0.0, kinds: int = 1
) -> World:
    """A world with exactly these numbers of users, films and ratings. Each film has at least one rating.

    least: ratings of each user, at least. drift: of the truth, in radians a year; 0 for none.
    kinds: of users' tastes, see draw_truth.

    Raises SettingsError, in one line, for numbers that no world can have.
    """
    _refuse_impossible(seed, users, items, ratings, least)
    if not 0 <= drift <= MOST_DRIFT:
        raise SettingsError(f"a drift of {drift} cannot be; expected 0 to {MOST_DRIFT:g} radians a year")
    if not 1 <= kinds <= min(len(KIND_SHARES), users):
        raise SettingsError(f"{kinds} kinds of users cannot be; expected 1 to {min(len(KIND_SHARES), users)}")
    if drift and kinds > 1:
        raise SettingsError("kinds of users that drift cannot be: expected a drift, or kinds, not both")
    films = make_films(seed, items)
    first = first_times(seed, users)
    truth = draw_truth(seed, films, first < HALF_STARS_SINCE, drift, kinds)
    rank = films.rank(seed, truth.item_bias - films.quality())
    activity = activities(seed, users, items, ratings, least)
    return World(films, truth, gather(seed, activity, rank, expected_raters(users, items, ratings)), first)


def rating_frame(ratings: Ratings) -> pl.DataFrame:
    """Columns `user` and `item` (int32, ids from 1), `rating` (float32) and `time` (int64)."""
    return pl.DataFrame(
        {"user": ratings.user + 1, "item": ratings.item + 1, "rating": ratings.value, "time": ratings.time}
    )


def _refuse_impossible(seed: int, users: int, items: int, ratings: int, least_activity: int) -> None:
    if seed < 0:
        raise SettingsError(f"seed {seed} cannot be, since seeds are 0 or more")
    if users < 1:
        raise SettingsError(f"{users:,} users cannot be; at least 1 is needed")
    if least_activity < 1:
        raise SettingsError(f"{least_activity} ratings of each user cannot be; at least 1 is needed")
    usual = ", as in MovieLens" * (least_activity == LEAST_ACTIVITY)
    if items < least_activity:
        raise SettingsError(f"{items:,} items are too few: each user rates {least_activity} or more{usual}")
    least, most = max(least_activity * users, items), users * items
    if ratings < least:
        raise SettingsError(
            f"{ratings:,} ratings are too few for {users:,} users and {items:,} items: each user has {least_activity} "
            f"or more{usual}, and each item 1 or more, which makes {least:,}"
        )
    if ratings > most:
        raise SettingsError(
            f"{ratings:,} ratings are too many for {users:,} users and {items:,} items, which make {most:,} pairs"
        )
