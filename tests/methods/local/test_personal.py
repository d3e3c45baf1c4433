"""A user alone with public features: the prior, other scales, and predictions by dense matrices."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import Matern

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.evaluation.judging import judge_intervals, judge_node
from hierfed.methods.local.local import LocalOnly
from hierfed.methods.local.personal import PublicPrior, fit_local, public_prior
from tests.models.dense import dense_kriging

ITEMS, LIMITS = 25, (0.5, 5.0)
EVERY = torch.arange(ITEMS)


@pytest.fixture(scope="module")
def content(make_content):
    return replace(make_content(ITEMS), names=("vote_average", "votes", "year"))


@pytest.fixture(scope="module")
def prior(content) -> PublicPrior:
    return public_prior(content)


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    """Five users with as many ratings as each other, and one with one."""
    rng = np.random.default_rng(0)
    item = np.concatenate([[3], *(rng.choice(ITEMS, 9, replace=False) for _ in range(5))])
    user = np.concatenate([[2], np.repeat([4, 7, 11, 30, 31], 9)])
    value = rng.integers(1, 11, len(user)) / 2
    return Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))


def dense_prior(content) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all ratings of a user of whom nothing is known, but for noise."""
    x = np.column_stack([np.ones(ITEMS), content.scalars, content.genres])
    variances = np.diag([0.2, 0.05, 0.004, 0.004] + [0.015] * content.genres.shape[1])
    where = np.column_stack([0.4 * content.vote, 0.4 * content.votes, content.year, 0.8 * content.genres])
    titles = content.titles.toarray()
    covariance = x @ variances @ x.T + 0.25 * Matern(1.0, nu=1.5)(where) + 0.2 * titles @ titles.T
    return 3.3 + 0.6 * (content.vote_average - 6.4), covariance


def test_an_unknown_user_gets_what_public_votes_say(content, prior: PublicPrior, ratings: Ratings):
    model = fit_local(prior, ratings, LIMITS, 1)
    mean, covariance = dense_prior(content)
    for stranger in (0, 5, 10**6):
        assert stranger not in ratings.user
        found = model.distribution(rows_to_predict(torch.full((ITEMS,), stranger), EVERY))
        np.testing.assert_allclose(found[0], mean, rtol=1e-10)
        np.testing.assert_allclose(found[1], np.diag(covariance) + 0.45, rtol=1e-10)
    nobody = fit_local(prior, ratings.take(np.empty(0, np.int64)), LIMITS, 1)
    found = nobody.distribution(rows_to_predict(torch.zeros(ITEMS, dtype=torch.int64), EVERY))
    np.testing.assert_allclose(found[0], mean, rtol=1e-10)


def test_a_known_user_s_ratings_are_those_of_a_dense_gaussian_process(content, prior: PublicPrior, ratings: Ratings):
    """User by user, so that no one shares a block."""
    mean, covariance = dense_prior(content)
    for user in np.unique(ratings.user).tolist():
        mine = ratings.take(np.flatnonzero(ratings.user == user))
        model = fit_local(prior, mine, LIMITS, 1)
        found = model.distribution(rows_to_predict(torch.full((ITEMS,), user), EVERY))
        known, cross = covariance[np.ix_(mine.item, mine.item)], covariance[:, mine.item]
        noise = np.full(len(mine), 0.45)
        dense = dense_kriging(known, noise, cross, np.diag(covariance), mine.value - mean[mine.item])
        np.testing.assert_allclose(found[0], mean + dense.mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[1], dense.variance + 0.45 * dense.loudness, rtol=0, atol=1e-6)


@pytest.mark.parametrize("limits", [(1.0, 10.0), (-2.0, 2.0), (0.0, 100.0)])
def test_another_scale_is_the_same_model_stretched(prior: PublicPrior, ratings: Ratings, limits: tuple[float, float]):
    unit = (limits[1] - limits[0]) / 4.5
    stretched = (limits[0] + unit * (ratings.value.astype(float) - 0.5)).astype(np.float32)
    one = fit_local(prior, ratings, LIMITS, 1)
    other = fit_local(prior, Ratings(ratings.user, ratings.item, stretched), limits, 1)
    for user in (4, 31, 5):
        users = torch.full((ITEMS,), user)
        mean, variance = one.distribution(rows_to_predict(users, EVERY))
        found = other.distribution(rows_to_predict(users, EVERY))
        np.testing.assert_allclose(found[0], limits[0] + unit * (mean - 0.5), rtol=0, atol=1e-5 * unit)
        np.testing.assert_allclose(found[1], unit**2 * variance, rtol=1e-5)
        np.testing.assert_allclose(
            other.predict(rows_to_predict(users, EVERY)),
            limits[0] + unit * (one.predict(rows_to_predict(users, EVERY)) - 0.5),
            atol=1e-5 * unit,
        )


def test_predictions_are_within_the_scale(content, ratings: Ratings):
    votes = np.linspace(0, 10, ITEMS)
    model = fit_local(public_prior(replace(content, vote_average=votes)), ratings, LIMITS, 1)
    for user in (2, 5):
        mean, _ = model.distribution(rows_to_predict(torch.full((ITEMS,), user), EVERY))
        assert mean.min() < 0.5
        assert mean.max() > 5
        assert torch.equal(model.predict(rows_to_predict(torch.full((ITEMS,), user), EVERY)), mean.clamp(0.5, 5))


def test_what_a_user_keeps_are_the_ratings(prior: PublicPrior, ratings: Ratings):
    kept = dict(fit_local(prior, ratings, LIMITS, 1).tensors())
    assert set(kept) == set(ratings.user.tolist())
    for user, tensors in kept.items():
        mine = ratings.user == user
        order = np.argsort(ratings.item[mine])
        assert tensors["items"].tolist() == ratings.item[mine][order].tolist()
        assert tensors["ratings"].tolist() == ratings.value[mine][order].tolist()


def test_the_model_cannot_be_sent(prior: PublicPrior, ratings: Ratings):
    with pytest.raises(TypeError, match="PersonalLocal is private to its node"):
        pickle.dumps(fit_local(prior, ratings, LIMITS, 1))


def test_without_metadata_there_are_still_predictions(make_content, ratings: Ratings):
    prior = public_prior(make_content(ITEMS, scalars=0, genres=0, titles=False))
    mean, variance = fit_local(prior, ratings, LIMITS, 1).distribution(rows_to_predict(torch.full((ITEMS,), 4), EVERY))
    assert torch.isfinite(mean).all()
    assert (variance > 0).all()


def test_intervals_hold_what_they_say_on_data_of_the_model(content, divide_users):
    """Users with as many ratings as each other, drawn from the prior, with scales and noise levels of their own."""
    method, rng, users = LocalOnly(content, (-50.0, 50.0)), np.random.default_rng(3), 120
    unit = 100 / 4.5
    mean, covariance = dense_prior(content)
    scale, level = 1 / rng.gamma(6, 1 / 6, users), np.exp(rng.normal(0, 1, users))
    tastes = np.sqrt(scale / level)[:, None] * rng.multivariate_normal(0 * mean, covariance, users)
    stars = mean + tastes + np.sqrt(0.45 * scale)[:, None] * rng.normal(0, 1, tastes.shape)
    user, item = np.indices(stars.shape).reshape(2, -1)
    value = -50 + unit * (stars.ravel() - 0.5)
    ratings = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    (node,) = divide_users(ratings, [0] * users)
    held = item >= 15
    node = replace(node, train=ratings.take(~held), test=ratings.take(held))
    (model,) = method.personalise(method.start(), [node], [None])
    _, judged = judge_node(method, method.start(), node, model)
    found = judge_intervals([judged])
    assert 0.87 < found.coverage < 0.93
