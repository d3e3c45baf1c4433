"""A world: exact numbers, the same in whatever batches, a truth that its ratings show, and refusals in one line."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hierfed.data.ratings import Ratings
from hierfed.errors import SettingsError
from hierfed.generated.times import HALF_STARS_SINCE
from hierfed.generated.world import World, make_world
from hierfed.models.baselines import fit_biases

NUMBERS = (2000, 1500, 200_000)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(11, *NUMBERS)


@pytest.fixture(scope="module")
def ratings(world) -> Ratings:
    return world.ratings_of(np.arange(world.users))


@cache
def small() -> tuple[World, Ratings]:
    world = make_world(2, 40, 120, 1500)
    return world, world.ratings_of(np.arange(40))


def columns(parts: list[Ratings]) -> list[list[float]]:
    return [
        np.concatenate([getattr(part, name) for part in parts]).tolist() for name in ("user", "item", "value", "time")
    ]


@given(st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_ratings_are_the_same_in_batches_of_any_size(size):
    world, whole = small()
    assert columns(list(world.batches(size))) == columns([whole])


def test_numbers_are_exact_and_pairs_unique(ratings):
    users, items, rows = NUMBERS
    assert len(ratings) == rows
    assert (np.diff(ratings.user) >= 0).all()
    assert np.bincount(ratings.user, minlength=users).min() >= 20
    assert np.bincount(ratings.item, minlength=items).min() >= 1
    assert len(np.unique(ratings.user.astype(np.int64) * items + ratings.item)) == rows
    assert (np.diff(ratings.time)[np.diff(ratings.user) == 0] >= 0).all()
    assert [column.dtype for column in (ratings.user, ratings.item, ratings.value, ratings.time)] == [
        np.int32,
        np.int32,
        np.float32,
        np.int64,
    ]


def test_another_seed_is_another_world():
    first, second = (make_world(seed, 40, 120, 1500) for seed in (1, 2))
    assert (first.truth.user_bias != second.truth.user_bias).all()
    assert (first.films.year != second.films.year).mean() > 0.8
    assert (first.first_times != second.first_times).all()
    assert first.audience.activity.tolist() != second.audience.activity.tolist()


def test_users_who_began_before_there_were_half_stars_rate_in_whole_ones(world, ratings):
    early = np.flatnonzero(world.first_times < HALF_STARS_SINCE)
    in_halves = np.bincount(ratings.user, ratings.value % 1 > 0)
    assert len(early) > 800
    assert not in_halves[early].any()
    assert (np.delete(in_halves, early) > 0).mean() > 0.95


def test_better_films_have_more_raters(world, ratings):
    surprise = world.truth.item_bias - world.films.quality()
    tie = np.corrcoef(surprise, np.log(np.bincount(ratings.item)))[0, 1]
    assert 0.3 < tie < 0.6


def test_popular_films_are_rated_at_any_time(ratings):
    """Within a user, a film's popularity does not hang on its place."""
    place = np.arange(len(ratings)) - np.searchsorted(ratings.user, ratings.user)
    share = (place + 0.5) / np.bincount(ratings.user)[ratings.user]
    popularity = np.bincount(ratings.item)[ratings.item]
    assert abs(np.corrcoef(share, popularity)[0, 1]) < 4 / np.sqrt(len(ratings))


def test_film_means_are_within_their_standard_errors_of_the_truth(world, ratings):
    """Of films with 50 raters or more: what their ratings add to the expected sum, in standard errors, is N(0, 1)."""
    mean, variance = world.truth.prediction(ratings.user, ratings.item)
    known = np.bincount(ratings.item) >= 50
    over = np.bincount(ratings.item, ratings.value - mean)[known]
    errors = over / np.sqrt(np.bincount(ratings.item, variance)[known])
    assert known.sum() > 400
    assert stats.kstest(errors, "norm").pvalue > 0.01


def test_user_noise_shows_in_their_ratings(world, ratings):
    mean, variance = world.truth.prediction(ratings.user, ratings.item)
    squares = (ratings.value - mean) ** 2
    noisy = world.truth.user_noise[ratings.user] > np.median(world.truth.user_noise)
    for group in (noisy, ~noisy):
        assert squares[group].mean() == pytest.approx(variance[group].mean(), rel=0.02)
    assert variance[noisy].mean() > 1.8 * variance[~noisy].mean()


def test_plain_estimates_find_the_biases(world, ratings):
    fitted = fit_biases(ratings, world.users, world.items)
    often = np.bincount(ratings.item) >= 100
    assert np.corrcoef(fitted.item[often], world.truth.item_bias[often])[0, 1] > 0.93
    active = np.bincount(ratings.user) >= 100
    assert np.corrcoef(fitted.user[active], world.truth.user_bias[active])[0, 1] > 0.9


def between(group: np.ndarray, value: np.ndarray) -> float:
    """Mean product of two different rows' deviations within a group: the variance between groups, without noise."""
    deviation = value - value.mean()
    sums, squares, counts = (np.bincount(group, each) for each in (deviation, deviation**2, np.ones(len(group))))
    return float((sums**2 - squares).sum() / (counts * (counts - 1)).sum())


@pytest.mark.parametrize("side", ["user", "item"])
def test_variance_components_are_the_truth_s(world, ratings, side):
    """Noise adds nothing to products of different rows, so ratings and their expectations have the same components."""
    group = getattr(ratings, side)
    expected = between(group, world.truth.prediction(ratings.user, ratings.item)[0])
    assert between(group, ratings.value.astype(float)) == pytest.approx(expected, rel=0.03)
    assert expected > 0.1


@pytest.mark.parametrize(
    ("seed", "users", "items", "ratings", "words"),
    [
        (-1, 10, 30, 250, ["seed -1", "0 or more"]),
        (0, 0, 30, 250, ["0 users", "1"]),
        (0, -5, 30, 250, ["-5 users"]),
        (0, 10, 19, 190, ["19 items", "20"]),
        (0, 10, -30, 250, ["-30 items"]),
        (0, 10, 30, -250, ["-250 ratings", "200"]),
        (0, 10, 30, 199, ["199 ratings", "too few", "20 or more", "200"]),
        (0, 10, 300, 250, ["250 ratings", "too few", "1 or more", "300"]),
        (0, 1000, 30, 30_001, ["30,001 ratings", "too many", "30,000 pairs"]),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(seed, users, items, ratings, words):
    with pytest.raises(SettingsError) as caught:
        make_world(seed, users, items, ratings)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("users", "kinds", "drift", "words"),
    [(9, 0, 0.0, "0 kinds.* 1 to 3$"), (9, 4, 0.0, "1 to 3$"), (2, 3, 0.0, "1 to 2$"), (9, 2, 0.1, "not both$")],
)
def test_impossible_kinds_are_refused_in_one_line(users, kinds, drift, words):
    with pytest.raises(SettingsError, match=words):
        make_world(0, users, 30, max(20 * users, 30), drift=drift, kinds=kinds)
