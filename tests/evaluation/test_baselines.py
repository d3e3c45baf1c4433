"""Simple baselines against predictions by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.ratings import Ratings
from hierfed.evaluation.baselines import simple_baselines
from hierfed.models.baselines import fit_biases


def test_simple_baselines_are_root_mean_squares_of_hand_made_predictions():
    train = Ratings(np.array([0, 0, 1], np.int32), np.array([0, 1, 0], np.int32), np.array([5, 3, 1], np.float32))
    test = Ratings(np.array([1, 0], np.int32), np.array([1, 0], np.int32), np.array([2, 4], np.float32))
    found = simple_baselines(train, test, users=2, items=2)
    # The mean is 3: user 0's mean residual sum is 2, user 1's is -2; item 0's is 0, item 1's is 0.
    assert found["global_mean"] == pytest.approx(np.sqrt((1 + 1) / 2))
    assert found["item_mean"] == pytest.approx(1.0)
    users = np.array([3 + 2 / 17, 3 - 2 / 16])
    assert found["user_mean"] == pytest.approx(np.sqrt(((users[1] - 2) ** 2 + (users[0] - 4) ** 2) / 2))
    assert list(found) == ["global_mean", "item_mean", "user_mean", "biases"]
    design = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]], float)
    user_0, user_1, item_0, item_1 = np.linalg.solve(
        design.T @ design + np.diag([15.0, 15, 10, 10]), design.T @ np.array([2.0, 0, -2])
    )
    joint = np.sqrt(((3 + user_1 + item_1 - 2) ** 2 + (3 + user_0 + item_0 - 4) ** 2) / 2)
    assert found["biases"] == pytest.approx(joint, abs=1e-9)


def test_items_under_the_threshold_share_one_bias():
    def rows(user: list[int], item: list[int], value: list[float]) -> Ratings:
        return Ratings(np.array(user, np.int32), np.array(item, np.int32), np.array(value, np.float32))

    train, test = rows([0, 1, 2, 0, 1], [0, 0, 0, 1, 2], [3, 3, 3, 5, 1]), rows([2, 2], [1, 2], [3, 3])
    assert "pooled_biases" not in simple_baselines(train, test, 3, 3, np.zeros(3, bool))
    pooled = np.array([False, True, True])
    found = fit_biases(train, 3, 3, pooled)
    assert found.item[1] == found.item[2] == pytest.approx(0, abs=1e-9)
    assert found.item[0] == pytest.approx(0, abs=1e-9)
    rmse = np.sqrt(np.mean((found.predict(test) - test.value) ** 2))
    assert simple_baselines(train, test, 3, 3, pooled)["pooled_biases"] == pytest.approx(rmse)
