"""Tails of activity and popularity: exact sums, MovieLens' quantiles, and weights that give what is expected."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hierfed.generated.tails import activities, attractions, distinct_after, expected_raters

# The numbers of ml-latest-small of October 2016, and its quantiles.
REAL = (671, 9066, 100_004)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
REAL_ACTIVITY = (24, 37, 71, 161, 323, 520)
REAL_POPULARITY = (1, 1, 3, 9, 28, 49)


@st.composite
def possible_numbers(draw):
    users, items = draw(st.integers(1, 300)), draw(st.integers(20, 400))
    least, most = max(20 * users, items), users * items
    assume(least <= most)
    return users, items, draw(st.integers(least, most) | st.sampled_from([least, most, min(least + 1, most)]))


@given(possible_numbers(), st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_activities_sum_to_the_ratings_within_20_and_all(numbers, seed):
    users, items, ratings = numbers
    found = activities(seed, users, items, ratings)
    assert (len(found), found.sum()) == (users, ratings)
    assert found.min() >= 20
    assert found.max() <= items


@given(possible_numbers())
@settings(max_examples=100, deadline=None)
def test_expected_raters_and_a_first_one_each_sum_to_the_ratings(numbers):
    users, items, ratings = numbers
    expected = expected_raters(*numbers)
    assert expected.sum() + items == pytest.approx(ratings, rel=1e-9)
    assert expected.min() >= 0
    assert expected.max() <= users - 1 + np.exp(-users) + 1e-9
    assert (np.diff(expected) <= 0).all()


def test_activity_has_movielens_quantiles():
    users, items, ratings = REAL
    many = activities(0, 100 * users, items, 100 * ratings)
    assert np.quantile(many, SHARES) == pytest.approx(REAL_ACTIVITY, rel=0.16)
    assert 900 < np.quantile(many, 0.99) < 1300


def test_popularity_has_movielens_quantiles():
    expected = expected_raters(*REAL)
    counts = 1 + np.random.default_rng(0).poisson(expected)
    assert np.quantile(counts, SHARES) == pytest.approx(REAL_POPULARITY, rel=0.12)
    assert 0.25 < (counts == 1).mean() < 0.35
    assert 0.57 < (counts < 5).mean() < 0.65
    assert 250 < expected[0] < 340


def chances_of_first(weights: np.ndarray, size: int) -> np.ndarray:
    """The chance of each thing to be among the first `size` drawn without replacement, over all orders."""
    chances = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), size):
        left, chance = 1.0, 1.0
        for thing in order:
            chance *= weights[thing] / left
            left -= weights[thing]
        chances[list(order)] += chance
    return chances


def test_things_are_drawn_about_as_often_as_expected():
    expected, sizes = np.array([40.0, 30, 25, 20, 15, 10, 6, 4]), np.array([2] * 30 + [3] * 20 + [0] * 5 + [5] * 6)
    weights = attractions(expected, sizes)
    assert weights.sum() == pytest.approx(1)
    drawn = sum(chances_of_first(weights, int(size)) for size in sizes[sizes > 0])
    assert drawn == pytest.approx(expected, rel=0.1)


def test_many_things_are_drawn_as_often_as_expected():
    users, items, ratings = 3000, 2000, 90_000
    expected = expected_raters(users, items, ratings)
    sizes = activities(0, users, items, ratings)
    sizes = np.random.default_rng(0).binomial(sizes, expected.sum() / ratings)
    weights = attractions(expected, sizes)
    race = np.random.default_rng(1).standard_exponential((users, items)) / weights
    chosen = np.argsort(np.argsort(race, axis=1), axis=1) < sizes[:, None]
    drawn = chosen.sum(0)
    for begin, end in [(0, 5), (5, 20), (20, 100), (100, 500), (500, 2000)]:
        assert drawn[begin:end].sum() == pytest.approx(expected[begin:end].sum(), rel=0.03)


def test_different_things_after_so_many_draws():
    weights = np.array([0.5, 0.3, 0.1, 0.05, 0.05])
    drawn = np.random.default_rng(0).choice(5, size=(20_000, 7), p=weights)
    different = np.mean([len(set(row)) for row in drawn.tolist()])
    # Poisson numbers of draws stand for exact ones.
    assert distinct_after(weights, np.array([7.0]))[0] == pytest.approx(different, rel=0.06)
    assert distinct_after(weights, np.array([1e-9]))[0] == pytest.approx(1e-9)
