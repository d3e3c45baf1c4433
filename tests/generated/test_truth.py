"""The truth: its predictor and noise floor against brute force, its parts against their spreads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hierfed.generated import truth as module
from hierfed.generated.films import make_films
from hierfed.generated.truth import DRIFTS_SINCE, SECONDS_A_YEAR, Truth, draw_truth
from hierfed.generated.world import make_world


@pytest.fixture(scope="module")
def truth() -> Truth:
    return draw_truth(5, make_films(5, 3000), np.arange(4000) % 3 == 0)


def test_the_predictor_and_the_floor_are_those_of_many_simulated_ratings(truth):
    user, item = np.arange(12), np.arange(12) * 7
    mean, variance = truth.prediction(user, item)
    rng, times = np.random.default_rng(0), 40_000
    drawn = np.stack([truth.ratings(user, item, rng.standard_normal(12)) for _ in range(times)]).astype(float)
    assert mean == pytest.approx(drawn.mean(0), abs=5 * np.sqrt(variance.max() / times))
    assert variance == pytest.approx(drawn.var(0), rel=0.05)


def test_no_other_prediction_from_the_truth_is_as_good_as_the_mean(truth):
    rng = np.random.default_rng(1)
    user, item = rng.integers(4000, size=100_000), rng.integers(3000, size=100_000)
    value = truth.ratings(user, item, rng.standard_normal(100_000))
    mean, variance = truth.prediction(user, item)
    error = np.mean((value - mean) ** 2)
    assert error == pytest.approx(variance.mean(), rel=0.02)
    latent = truth.latent_mean(user, item)
    for other in (latent, np.clip(latent, 0.5, 5), np.round(2 * latent) / 2, mean + 0.05, mean * 1.02 - 0.07):
        assert np.mean((value - other) ** 2) > error


@pytest.mark.parametrize(("whole", "scale"), [(True, {1, 2, 3, 4, 5}), (False, set(np.arange(1, 11) / 2))])
def test_ratings_are_on_the_user_s_scale(truth, whole, scale):
    user = np.flatnonzero(truth.whole_stars == whole)[:200].repeat(100)
    rng = np.random.default_rng(2)
    value = truth.ratings(user, rng.integers(3000, size=len(user)), rng.standard_normal(len(user)))
    assert value.dtype == np.float32
    assert set(value.tolist()) == scale


def test_ratings_are_cut_where_the_cuts_are():
    one, no = np.ones(1), np.zeros((1, module.RANK))
    cuts = np.array([module.HALF_STARS, module.WHOLE_STARS])
    for whole, expected in ((False, 3.0), (True, 3.0)):
        # 3.2 is above six cuts of those in half stars, and five, of which -inf is one, of those in whole stars.
        truth = Truth(one * 3.14, one * 0, one, no, np.array([whole]), one * 0, no, cuts)
        assert truth.ratings(np.zeros(1, int), np.zeros(1, int), np.zeros(1)).tolist() == [expected]
    middle = Truth(one * 1, one * 2, one, no, np.array([False]), one * 1.5, no, cuts)
    assert middle.ratings(np.zeros(1, int), np.zeros(1, int), np.array([0.0])).tolist() == [4.5]
    assert middle.ratings(np.zeros(1, int), np.zeros(1, int), np.array([-9.0])).tolist() == [0.5]


def test_the_parts_have_the_spreads_that_they_are_drawn_with(truth):
    assert truth.user_bias.std() == pytest.approx(module.USER_SPREAD, rel=0.05)
    surprise = truth.item_bias - make_films(5, 3000).quality()
    assert surprise.std() == pytest.approx(module.FILM_SPREAD, rel=0.05)
    precision = module.NOISE**2 / truth.user_noise**2
    law = stats.gamma(module.NOISE_SHAPE, scale=1 / module.NOISE_SHAPE)
    assert stats.kstest(precision, law.cdf).pvalue > 0.01
    products = truth.user_factors @ truth.item_factors[:500].T
    assert products.std() == pytest.approx(module.FACTOR_SPREAD, rel=0.1)
    strengths = truth.user_factors.std(0) * truth.item_factors.std(0)
    assert strengths[0] > 2 * strengths[3] > 6 * strengths[7]


def test_genres_tell_their_share_of_the_films_factors(truth):
    films = make_films(5, 3000)
    design = np.column_stack([np.ones(3000), films.genres])
    fit = design @ np.linalg.lstsq(design, truth.item_factors, rcond=None)[0]
    left = (truth.item_factors - fit).var() / truth.item_factors.var()
    assert left == pytest.approx(1 - module.GENRE_SHARE, abs=0.04)


def test_a_drift_of_none_draws_the_same_truth_and_another_turns_it_at_its_rate():
    still, turned = make_world(3, 30, 40, 700), make_world(3, 30, 40, 700, drift=0.1)
    now = int((DRIFTS_SINCE - 1970) * SECONDS_A_YEAR)
    quarter = now + int(np.pi / 2 / 0.1 * SECONDS_A_YEAR)
    user, item = np.arange(30), np.arange(30)
    for name, array in still.truth.arrays().items():
        np.testing.assert_array_equal(turned.truth.arrays()[name], array)
    begun, turned_by = (turned.truth.latent_mean(user, item, np.full(30, when)) for when in (now, quarter))
    np.testing.assert_allclose(begun, still.truth.latent_mean(user, item), atol=1e-6)
    drift, films = turned.truth.drift, still.films.quality()[item]
    later = still.truth.mean + drift.later_user_bias[user] + films + drift.later_item_bias[item]
    later = later + (drift.later_user_factors[user] * drift.later_item_factors[item]).sum(1)
    np.testing.assert_allclose(turned_by, later, atol=1e-6)
    with pytest.raises(ValueError, match="asked at a time"):
        turned.truth.latent_mean(user, item)
    assert Truth.of(turned.truth.arrays()).drift.rate == [0.1]


def test_the_oracle_of_a_drift_is_better_than_the_truth_of_the_beginning():
    world = make_world(3, 100, 60, 3000, drift=0.15)
    rows = world.ratings_of(np.arange(100))
    knows = rows.value - world.truth.prediction(rows.user, rows.item, rows.time)[0]
    stays = rows.value - replace(world.truth, drift=None).prediction(rows.user, rows.item)[0]
    assert np.sqrt(np.mean(knows**2)) < np.sqrt(np.mean(stays**2)) - 0.1


def test_kinds_of_users_have_their_shares_means_and_spreads_and_nothing_else_changes():
    films, whole = make_films(4, 60), np.arange(3000) % 3 == 0
    alike, kinds = (draw_truth(4, films, whole, kinds=number) for number in (1, 3))
    assert alike.kind is None
    for name in alike.arrays().keys() - {"user_factors"}:
        np.testing.assert_array_equal(kinds.arrays()[name], alike.arrays()[name])
    assert np.bincount(kinds.kind).tolist() == [1800, 900, 300]
    strengths = module.KIND_DECAY ** np.arange(module.RANK)
    strengths *= module.KIND_SPREAD / np.sqrt(np.sum(strengths**2))
    for number, strongest in enumerate((0, 3, 6)):
        mine = kinds.user_factors[kinds.kind == number]
        of_kind = np.roll(strengths, strongest)
        square = module.KIND_MEAN_SHARE * of_kind**2
        assert np.abs(mine.mean(0)) == pytest.approx(np.sqrt(square), abs=4 * of_kind.max() / np.sqrt(len(mine)))
        assert mine.var(0) == pytest.approx(of_kind**2 - square, rel=0.4)
        assert np.abs(mine).mean(0).argmax() == strongest
    assert (Truth.of(kinds.arrays()).kind == kinds.kind).all()
    assert np.bincount(draw_truth(4, films, whole, kinds=2).kind).tolist() == [2000, 1000]
