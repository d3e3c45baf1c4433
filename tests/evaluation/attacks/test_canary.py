"""Canaries, and the epsilon that they prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hierfed.evaluation.attacks.canary import (
    Canary,
    clopper_pearson,
    epsilon_lower_bound,
    extreme_canary,
    most_that_can_be_shown,
    planted,
)

DELTA = 1e-5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_bounds_of_a_probability_are_scipys(counted):
    successes, trials = counted
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_perfect_attack_shows_what_so_many_trainings_can():
    member = np.arange(64) % 2 == 0
    # 16 trainings of each kind count: at best .025^(1/16) right and 1 - .025^(1/16) wrong.
    right = 0.025 ** (1 / 16)
    assert most_that_can_be_shown(member, DELTA) == pytest.approx(math.log((right - DELTA) / (1 - right)), rel=1e-9)
    for seed in range(20):
        scores = np.where(member, 2.0, -1.0) + np.random.default_rng(seed).normal(0, 0.1, 64)
        assert epsilon_lower_bound(scores, member, DELTA) == pytest.approx(most_that_can_be_shown(member, DELTA))


def test_a_canary_that_only_ever_shows_when_absent_counts_too():
    # Scores never exceed 0 with the canary, and half of the others do: a guess of `out` proves it.
    member = np.arange(400) % 2 == 0
    scores = np.where(member, 0.0, (np.arange(400) // 2) % 4 < 2)
    assert epsilon_lower_bound(-scores, member, DELTA) > 2


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_a_private_answer_is_never_shown_to_be_less_private_than_it_is(epsilon):
    exceeded = 0
    rng = np.random.default_rng(2)
    for _ in range(300):
        member = np.arange(200) % 2 == 0
        truth = rng.random(200) < 1 / (1 + math.exp(-epsilon))  # randomised response
        exceeded += epsilon_lower_bound(np.where(truth, member, ~member).astype(float), member, DELTA) > epsilon
    assert exceeded / 300 <= 0.05


def test_randomised_response_is_shown_to_leak():
    rng, member = np.random.default_rng(3), np.arange(4000) % 2 == 0
    truth = rng.random(4000) < 1 / (1 + math.exp(-2.0))
    assert epsilon_lower_bound(np.where(truth, member, ~member).astype(float), member, DELTA) == pytest.approx(
        1.8, abs=0.2
    )


def test_noise_shows_nothing():
    member = np.arange(100) % 2 == 0
    bounds = [epsilon_lower_bound(np.random.default_rng(seed).normal(0, 1, 100), member, DELTA) for seed in range(40)]
    assert np.mean(np.array(bounds) > 0) <= 0.1


def test_a_canary_rates_at_the_extremes_and_is_planted_behind_the_others(make_ratings):
    canary = extreme_canary(np.arange(5, 20), 6, (0.5, 5.0), np.random.default_rng(4))
    assert sorted(canary.value.tolist()) == [0.5] * 3 + [5.0] * 3
    assert len(set(canary.item.tolist())) == 6
    assert set(canary.item.tolist()) <= set(range(5, 20))
    ratings = make_ratings(30)
    both = planted(ratings, canary.rows(7))
    assert len(both) == 36
    np.testing.assert_array_equal(both.user, [*ratings.user, *[7] * 6])
    np.testing.assert_array_equal(both.item, [*ratings.item, *canary.item])
    np.testing.assert_array_equal(both.value, [*ratings.value, *canary.value])
    assert (both.user.dtype, both.item.dtype, both.value.dtype) == (np.int32, np.int32, np.float32)


def test_the_score_of_a_canary_is_how_far_its_films_are_apart():
    canary = Canary(np.array([3, 4, 9]), np.array([5.0, 0.5, 5.0], np.float32))
    assert canary.score(np.array([4.0, 3.0, 3.0])) == 0.5
