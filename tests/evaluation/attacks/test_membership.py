"""Membership inference on observations whose best possible attack is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import ndtr
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from hierfed.evaluation.attacks.membership import (
    draw_members,
    likelihood_ratios,
    loss_scores,
    mean_by_user,
    solve_members,
)


def coins(trainings, candidates, rng):
    return rng.random((trainings, candidates)) < 0.5


def test_members_are_a_random_half_of_every_group_anew_in_each_training():
    group = np.array([2, 0, 0, 2, 1, 2, 2, 1, 1, 0, 0])
    members = draw_members(3000, group, np.random.default_rng(1))
    for number, half in ((0, 2), (1, 1), (2, 2)):
        assert (members[:, group == number].sum(1) == half).all()
    np.testing.assert_allclose(members[:, group != 1].mean(0), 0.5, atol=0.04)
    np.testing.assert_allclose(members[:, group == 1].mean(0), 1 / 3, atol=0.04)
    assert abs(np.corrcoef(members[:-1, 0], members[1:, 0])[0, 1]) < 0.06
    np.testing.assert_array_equal(members, draw_members(3000, group, np.random.default_rng(1)))


def test_the_better_predicted_score_higher():
    scores = loss_scores(np.array([[3.0, 1.0], [2.0, 4.5]], np.float32), np.array([3.0, 4.0], np.float32))
    np.testing.assert_array_equal(scores, [[0.0, -9.0], [-1.0, -0.25]])


def test_ratios_are_those_of_normals_fitted_to_the_other_trainings():
    rng = np.random.default_rng(2)
    member = coins(14, 5, rng)
    observed = rng.normal(0, 1, member.shape) + member
    found = likelihood_ratios(observed, member)
    for training in range(14):
        others = np.arange(14) != training
        for candidate in range(5):
            seen, kinds = observed[others, candidate], member[others, candidate]
            inside, outside = seen[kinds], seen[~kinds]
            left = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
            spread = np.sqrt(left / (13 - 2))
            at = observed[training, candidate]
            expected = norm.logpdf(at, inside.mean(), spread) - norm.logpdf(at, outside.mean(), spread)
            assert found[training, candidate] == pytest.approx(expected, rel=1e-9)


def test_with_many_trainings_the_attack_is_as_good_as_the_best_one():
    rng = np.random.default_rng(3)
    member = coins(120, 300, rng)
    observed = rng.normal(0, 2, 300) + rng.normal(0, 1, member.shape) + 1.5 * member
    area = roc_auc_score(member.ravel(), likelihood_ratios(observed, member).ravel())
    assert area == pytest.approx(ndtr(1.5 / np.sqrt(2)), abs=0.01)


def test_an_observation_that_knows_nothing_is_worth_a_coin_even_with_few_trainings():
    rng = np.random.default_rng(4)
    member = coins(8, 20_000, rng)
    area = roc_auc_score(member.ravel(), likelihood_ratios(rng.normal(0, 1, member.shape), member).ravel())
    assert area == pytest.approx(0.5, abs=0.005)


def test_what_only_membership_moves_is_certain():
    member = coins(12, 40, np.random.default_rng(5))
    found = likelihood_ratios(member.astype(np.float64), member)
    usable = np.minimum(member.sum(0), (~member).sum(0)) > 2
    assert (found[:, usable][member[:, usable]] > 0).all()
    assert (found[:, usable][~member[:, usable]] < 0).all()


def test_nothing_is_said_of_a_candidate_without_shadows_of_both_kinds():
    member = np.ones((6, 2), bool)
    member[:3, 1] = False
    found = likelihood_ratios(np.random.default_rng(6).normal(0, 1, (6, 2)), member)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] != 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-50, 50))
def test_ratios_do_not_depend_on_unit_or_origin(seed, unit, origin):
    rng = np.random.default_rng(seed)
    member = coins(9, 6, rng)
    observed = rng.normal(0, 1, member.shape)
    moved = likelihood_ratios(unit * observed + origin, member)
    np.testing.assert_allclose(moved, likelihood_ratios(observed, member), rtol=1e-5, atol=1e-7)


def test_a_user_is_seen_by_the_mean_of_the_users_rows():
    observed = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, 8.0]])
    np.testing.assert_array_equal(mean_by_user(observed, np.array([0, 2, 2]), 3), [[1.0, 0.0, 4.0], [0.0, 0.0, 6.0]])


def test_exact_counts_of_enough_items_tell_every_member():
    rng = np.random.default_rng(7)
    rated = (rng.random((60, 25)) < 0.3).astype(np.float64)
    member = rng.random(25) < 0.5
    np.testing.assert_allclose(solve_members(rated @ member, csr_array(rated)), member, atol=1e-6)
