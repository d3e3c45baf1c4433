"""Errors of ratings against scikit-learn's metrics, user by user."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from hierfed.models.metrics import rating_errors, user_rmse

rows = st.lists(st.tuples(st.floats(-5, 10), st.integers(1, 10), st.integers(0, 6)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_errors_equal_scikit_learns_over_rows_and_as_a_mean_over_users(found):
    predicted, half_stars, user = (np.array(column) for column in zip(*found, strict=True))
    actual = (half_stars / 2).astype(np.float32)
    errors = rating_errors(predicted, actual, user)
    assert errors.rmse == pytest.approx(root_mean_squared_error(actual, predicted), rel=1e-6, abs=1e-9)
    assert errors.mae == pytest.approx(mean_absolute_error(actual, predicted), rel=1e-6, abs=1e-9)
    by_user = {int(u): root_mean_squared_error(actual[user == u], predicted[user == u]) for u in set(user.tolist())}
    assert errors.user_macro_rmse == pytest.approx(np.mean(list(by_user.values())), rel=1e-6, abs=1e-9)
    users, each = user_rmse(predicted - actual, user)
    assert users.tolist() == sorted(by_user)
    np.testing.assert_allclose(each, [by_user[u] for u in users], rtol=1e-6, atol=1e-9)


def test_a_user_with_many_rows_counts_once_in_the_users_mean():
    predicted, actual = np.array([3.0, 3.0, 3.0, 1.0]), np.array([4.0, 4.0, 4.0, 4.0], np.float32)
    errors = rating_errors(predicted, actual, np.array([5, 5, 5, 9]))
    assert (errors.rmse, errors.mae, errors.user_macro_rmse) == (math.sqrt(12 / 4), 6 / 4, (1 + 3) / 2)


def test_float32_predictions_are_judged_in_float64():
    predicted = np.full(3, 0.1, np.float32)
    expected = abs(float(np.float32(0.1)) - 4)
    errors = rating_errors(predicted, np.full(3, 4, np.float32), np.zeros(3, np.int32))
    assert errors.rmse == pytest.approx(expected, rel=1e-14)


def test_no_rows_have_no_errors():
    nothing = np.empty(0)
    errors = rating_errors(nothing, nothing, nothing.astype(np.int32))
    assert all(math.isnan(value) for value in (errors.rmse, errors.mae, errors.user_macro_rmse))
