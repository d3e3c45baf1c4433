"""Users' private biases and heads against the formula by hand and scikit-learn's ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.methods.averaging import user_level
from hierfed.methods.averaging.user_level import UserHeads, UserPersonalisation, fit_user_heads

UNITS = 4
BIAS = UserPersonalisation("bias", bias_shrinkage=5.0, head_penalty=10.0)
RIDGE = UserPersonalisation("ridge_head", bias_shrinkage=5.0, head_penalty=10.0)
users_lists = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def rows_of(user: list[int], seed: int = 0) -> tuple[Ratings, Tensor, Tensor]:
    """Ratings of these users, a model's predictions of them and its hidden layer there."""
    rng = np.random.default_rng(seed)
    rows = len(user)
    value = (rng.integers(1, 11, size=rows) / 2).astype(np.float32)
    ratings = Ratings(np.array(user, np.int32), np.zeros(rows, np.int32), value)
    return ratings, torch.from_numpy(rng.normal(3, 1, rows)), torch.from_numpy(rng.exponential(1, (rows, UNITS)))


def assert_user_equal(one: UserHeads, other: UserHeads, user: int) -> None:
    hidden = torch.eye(UNITS, dtype=torch.float64)
    who = torch.full((UNITS,), user)
    torch.testing.assert_close(one.adjust(who, hidden), other.adjust(who, hidden), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(one.adjust(who, 0 * hidden), other.adjust(who, 0 * hidden), rtol=1e-9, atol=1e-12)


def test_a_users_bias_is_the_mean_residual_shrunk_by_hand():
    ratings = Ratings(np.array([9, 4, 9], np.int32), np.zeros(3, np.int32), np.array([5, 1, 4], np.float32))
    prediction = torch.tensor([3.5, 3.0, 3.0], dtype=torch.float64)
    heads = fit_user_heads(ratings, prediction, torch.ones(3, UNITS).double(), BIAS)
    assert heads.users.tolist() == [4, 9]
    assert heads.bias.tolist() == pytest.approx([-2 / 6, 2.5 / 7])
    assert not heads.weights.any()


@settings(max_examples=40, deadline=None)
@given(users_lists, st.integers(0, 1000), st.floats(0, 20), st.floats(0.1, 50))
def test_each_users_head_is_scikit_learns_ridge_on_what_the_bias_leaves(user, seed, shrinkage, penalty):
    ratings, prediction, hidden = rows_of(user, seed)
    heads = fit_user_heads(ratings, prediction, hidden, UserPersonalisation("ridge_head", shrinkage, penalty))
    residual = ratings.value.astype(np.float64) - prediction.numpy()
    assert heads.users.tolist() == sorted(set(user))
    for place, number in enumerate(sorted(set(user))):
        own = ratings.user == number
        bias = residual[own].sum() / (own.sum() + shrinkage)
        ridge = Ridge(alpha=penalty, fit_intercept=False).fit(hidden.numpy()[own], residual[own] - bias)
        assert heads.bias[place].item() == pytest.approx(bias, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(heads.weights[place], ridge.coef_, rtol=1e-6, atol=1e-9)


def test_a_large_node_fitted_in_chunks_has_the_same_heads(monkeypatch):
    rows = rows_of(np.random.default_rng(0).integers(6, size=60).tolist())
    whole = fit_user_heads(*rows, RIDGE)
    monkeypatch.setattr(user_level, "CHUNK_VALUES", 7 * UNITS**2)
    chunked = fit_user_heads(*rows, RIDGE)
    torch.testing.assert_close(chunked.weights, whole.weights, rtol=1e-12, atol=1e-14)


def test_users_head_adds_bias_and_weighted_hidden_units():
    heads = UserHeads(
        torch.tensor([2, 5, 9]),
        torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64),
        torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]], dtype=torch.float64),
    )
    hidden = torch.tensor([[1.0, 2.0]], dtype=torch.float64).repeat(7, 1)
    added = heads.adjust(torch.tensor([5, 2, 9, 0, 3, 7, 100]), hidden)
    assert added.tolist() == [-1.0 + 2.0 - 2.0, 0.5 + 1.0, 0.25 + 6.0, 0.0, 0.0, 0.0, 0.0]
    assert added.dtype == torch.float64


@settings(max_examples=40, deadline=None)
@given(users_lists, st.lists(st.integers(-3, 12), min_size=1, max_size=10))
def test_users_without_ratings_get_nothing(user, asked):
    heads = fit_user_heads(*rows_of(user), RIDGE)
    hidden = torch.ones(len(asked), UNITS, dtype=torch.float64)
    added = heads.adjust(torch.tensor(asked), hidden)
    for number, amount in zip(asked, added.tolist(), strict=True):
        assert (amount == 0) == (number not in user)


def test_a_node_without_users_adds_nothing():
    heads = UserHeads(torch.zeros(0, dtype=torch.int64), torch.zeros(0).double(), torch.zeros(0, UNITS).double())
    assert heads.adjust(torch.tensor([0, 3]), torch.ones(2, UNITS).double()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("how", [BIAS, RIDGE], ids=["bias", "ridge head"])
@settings(max_examples=40, deadline=None)
@given(user=users_lists, others=users_lists, seed=st.integers(0, 1000))
def test_a_users_head_depends_on_that_users_rows_only(how, user, others, seed):
    ratings, prediction, hidden = rows_of(user, seed)
    strangers, stranger_prediction, stranger_hidden = rows_of([10 + number for number in others], seed + 1)
    mixed = Ratings(
        np.concatenate([strangers.user, ratings.user]),
        np.concatenate([strangers.item, ratings.item]),
        np.concatenate([strangers.value, ratings.value]),
    )
    alone = fit_user_heads(ratings, prediction, hidden, how)
    in_company = fit_user_heads(
        mixed, torch.cat([stranger_prediction, prediction]), torch.cat([stranger_hidden, hidden]), how
    )
    for number in set(user):
        assert_user_equal(alone, in_company, number)
