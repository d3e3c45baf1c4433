"""Means and biases against sums by hand and the joint ridge regression by linear algebra."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.ratings import Ratings
from hierfed.models.baselines import Biases, fit_biases, fit_global_mean, fit_item_mean, fit_user_mean

# User, item, value; user 2 and item 3 have no ratings.
TRAIN = Ratings(
    np.array([0, 0, 0, 1, 1, 3], np.int32),
    np.array([0, 1, 2, 0, 1, 0], np.int32),
    np.array([5, 4, 3, 2, 1, 4.5], np.float32),
)
USERS, ITEMS = 4, 4
MEAN = 19.5 / 6


def test_the_global_mean_is_the_same_for_everyone():
    fitted = fit_global_mean(TRAIN, USERS, ITEMS)
    np.testing.assert_allclose(fitted.predict(TRAIN), np.full(6, MEAN))
    assert fitted.user.shape == (USERS,)
    assert fitted.item.shape == (ITEMS,)


def test_item_means_are_shrunk_as_if_by_ten_further_ratings_of_the_mean():
    fitted = fit_item_mean(TRAIN, USERS, ITEMS)
    items = [(5 + 2 + 4.5 + 10 * MEAN) / 13, (4 + 1 + 10 * MEAN) / 12, (3 + 10 * MEAN) / 11, MEAN]
    np.testing.assert_allclose(fitted.mean + fitted.item, items)
    np.testing.assert_allclose(fitted.predict(TRAIN), np.array(items)[TRAIN.item])


def test_user_means_are_shrunk_as_if_by_fifteen_further_ratings_of_the_mean():
    fitted = fit_user_mean(TRAIN, USERS, ITEMS)
    users = [(12 + 15 * MEAN) / 18, (3 + 15 * MEAN) / 17, MEAN, (4.5 + 15 * MEAN) / 16]
    np.testing.assert_allclose(fitted.mean + fitted.user, users)
    np.testing.assert_allclose(fitted.predict(TRAIN), np.array(users)[TRAIN.user])


@pytest.mark.parametrize("seed", range(5))
def test_biases_are_the_solution_of_the_joint_ridge_regression(seed):
    rng = np.random.default_rng(seed)
    users, items, rows = 6, 5, 22
    train = Ratings(
        rng.integers(users - 1, size=rows, dtype=np.int32),
        rng.integers(items - 1, size=rows, dtype=np.int32),
        (rng.integers(1, 11, size=rows) / 2).astype(np.float32),
    )
    design = np.hstack([np.eye(users)[train.user], np.eye(items)[train.item]])
    penalty = np.diag([15.0] * users + [10.0] * items)
    mean = train.value.astype(np.float64).mean()
    joint = np.linalg.solve(design.T @ design + penalty, design.T @ (train.value - mean))
    fitted = fit_biases(train, users, items)
    assert fitted.mean == pytest.approx(mean, rel=1e-12)
    # Ten sweeps shrink the error by the product of two shares of about 5/20 and 5/15 each time.
    np.testing.assert_allclose(np.concatenate([fitted.user, fitted.item]), joint, atol=1e-6)
    assert fitted.user[users - 1] == fitted.item[items - 1] == 0


def test_a_prediction_is_the_mean_and_both_biases():
    fitted = Biases(3.0, np.array([0.0, 0.5]), np.array([-1.0, 0.25, 0.0]))
    rows = Ratings(np.array([1, 0, 1], np.int32), np.array([0, 1, 2], np.int32), np.zeros(3, np.float32))
    np.testing.assert_array_equal(fitted.predict(rows), [2.5, 3.25, 3.5])
