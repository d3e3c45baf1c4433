"""Who rates what: exact numbers, no pair twice, chances as without replacement, and nobody depends on company."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.generated import pairs
from hierfed.generated.pairs import Audience, draws_needed, gather
from hierfed.generated.tails import activities, expected_raters


def audience_of(users: int, items: int, ratings: int, seed: int = 0) -> Audience:
    rank = np.random.default_rng(seed).permutation(items)
    return gather(seed, activities(seed, users, items, ratings), rank, expected_raters(users, items, ratings))


def plain(activity: list[int], weights: list[float], seed: int = 0) -> Audience:
    """An audience in which no film has a first rater set."""
    nobody = np.empty(0, np.int64)
    wanted, chances = np.array(activity), np.array(weights)
    draws = draws_needed(chances, wanted)
    return Audience(seed, wanted, chances, draws, nobody, np.zeros(len(activity), np.int64))


@pytest.mark.parametrize(
    "numbers", [(60, 500, 3000), (60, 50, 2500), (25, 40, 1000), (25, 40, 500), (20, 800, 800), (1, 30, 30)]
)
def test_every_user_has_as_many_different_films_as_wanted_and_every_film_a_rater(numbers):
    users, items, ratings = numbers
    audience = audience_of(*numbers)
    films = audience.films(np.arange(users))
    assert len(films) == ratings
    owner = np.repeat(np.arange(users), audience.activity)
    assert len(np.unique(owner * items + films)) == ratings
    assert np.bincount(films, minlength=items).min() >= 1
    assert len(np.bincount(films)) == items


@given(st.lists(st.integers(0, 79), min_size=1, unique=True), st.sampled_from([(80, 300, 2500), (80, 3000, 9000)]))
@settings(max_examples=30, deadline=None)
def test_a_user_s_films_are_the_same_in_whatever_company(chosen, numbers):
    audience = audience_of(*numbers)
    everybody = np.split(audience.films(np.arange(80)), np.cumsum(audience.activity)[:-1])
    some = audience.films(np.array(chosen))
    assert some.tolist() == np.concatenate([everybody[user] for user in chosen]).tolist()


def chances_of(weights: np.ndarray, size: int) -> dict[tuple[int, ...], float]:
    """Of each set of things, by brute force over all orders, the chance to be the first drawn without replacement."""
    chances: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(len(weights)), size):
        left, chance = 1.0, 1.0
        for thing in order:
            chance *= weights[thing] / left
            left -= weights[thing]
        key = tuple(sorted(order))
        chances[key] = chances.get(key, 0) + chance
    return chances


@pytest.mark.parametrize("share", [0.0, 100.0])
def test_sets_have_the_chances_of_draws_without_replacement(monkeypatch, share):
    """As races, and as draws that skip repeats."""
    monkeypatch.setattr(pairs, "RACING_SHARE", share)
    weights, users = np.array([0.4, 0.3, 0.2, 0.1]), 40_000
    films = plain([2] * users, weights.tolist()).films(np.arange(users)).reshape(users, 2)
    chosen = np.sort(films, axis=1)
    for (first, second), chance in chances_of(weights, 2).items():
        found = ((chosen == [first, second]).all(1)).mean()
        assert found == pytest.approx(chance, abs=4 * np.sqrt(chance / users))


def test_draws_go_on_until_there_are_enough(monkeypatch):
    """Far fewer draws than are needed at first give the same films."""
    audience = audience_of(40, 3000, 6000)
    usual = audience.films(np.arange(40))
    monkeypatch.setattr(pairs, "FIRST_DRAWS", 0.01)
    assert audience.films(np.arange(40)).tolist() == usual.tolist()


def test_films_that_a_user_is_the_first_to_rate_are_the_user_s():
    audience = audience_of(60, 500, 3000)
    found = np.split(audience.films(np.arange(60)), np.cumsum(audience.activity)[:-1])
    first = np.split(audience.first_films, np.cumsum(audience.first_counts)[:-1])
    assert sorted(audience.first_films.tolist()) == list(range(500))
    assert all(set(own) <= set(all_own) for own, all_own in zip(first, found, strict=True))
    assert np.corrcoef(audience.first_counts, audience.activity)[0, 1] > 0.9


def test_counts_of_raters_are_as_expected():
    users, items, ratings = 3000, 1500, 120_000
    expected = expected_raters(users, items, ratings)
    rank = np.random.default_rng(0).permutation(items)
    films = gather(0, activities(0, users, items, ratings), rank, expected).films(np.arange(users))
    raters = np.bincount(films, minlength=items)[np.argsort(rank)]
    for begin, end in [(0, 5), (5, 50), (50, 300), (300, 800), (800, 1500)]:
        assert raters[begin:end].sum() == pytest.approx((1 + expected[begin:end]).sum(), rel=0.03)
