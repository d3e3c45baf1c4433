"""Kriging against the formulas of a Gaussian process, user by user, in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import multivariate_normal
from sklearn.gaussian_process.kernels import Matern

from hierfed.personal import kriging
from hierfed.personal.kernel import ItemKernel
from hierfed.personal.kriging import Kriging, Observations

ITEMS, WEIGHTS = 60, 3
LEVELS = ((0.5, 0.3), (1.0, 0.5), (2.5, 0.2))
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)


class Case:
    """Users with these numbers of ratings, random in all else, and what to predict."""

    def __init__(self, counts: list[int], queries: int, seed: int = 0):
        rng = np.random.default_rng([seed, queries, *counts])
        titles = rng.random((ITEMS, 5)) * (rng.random((ITEMS, 5)) < 0.5)
        self.coordinates = rng.normal(0, 1, (ITEMS, 2))
        self.titles = titles / np.maximum(np.linalg.norm(titles, axis=1, keepdims=True), 1e-12)
        self.kernel = ItemKernel(((0.4, torch.from_numpy(self.coordinates)),), csr_matrix(self.titles), 0.2)
        root = rng.normal(0, 0.5, (WEIGHTS, WEIGHTS))
        self.spread = root @ root.T + 0.05 * np.eye(WEIGHTS)
        self.counts = counts
        chosen = [rng.choice(ITEMS, count, replace=False) for count in counts]
        self.own_items = np.concatenate(chosen) if sum(counts) else np.zeros(0, np.int64)
        self.own_vectors = rng.normal(0, 1, (sum(counts), WEIGHTS))
        self.residuals = rng.normal(0, 1, sum(counts))
        self.noise = rng.uniform(0.2, 1.5, sum(counts))
        self.place = rng.integers(len(counts), size=queries)
        self.items = rng.integers(ITEMS, size=queries)
        self.vectors = rng.normal(0, 1, (queries, WEIGHTS))
        self.whole = 0.4 * Matern(1.0, nu=1.5)(self.coordinates) + 0.2 * self.titles @ self.titles.T

    def kriging(self, levels: tuple[tuple[float, float], ...] = ((1.0, 1.0),), threads: int = 1) -> Kriging:
        observations = Observations(
            counts=torch.tensor(self.counts),
            items=torch.from_numpy(self.own_items).long(),
            ratings=torch.zeros(len(self.noise)).double(),
            vectors=torch.from_numpy(self.own_vectors),
            residuals=torch.from_numpy(self.residuals),
            noise=torch.from_numpy(self.noise),
        )
        return Kriging(self.kernel, torch.from_numpy(self.spread), observations, levels, threads)

    def predict(self, with_kriging: Kriging) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return with_kriging.predict(*map(torch.from_numpy, (self.place, self.items, self.vectors)))

    def own(self, user: int) -> slice:
        first = sum(self.counts[:user])
        return slice(first, first + self.counts[user])

    def covariance(self, user: int) -> np.ndarray:
        """Of the user's own ratings, without noise."""
        own = self.own(user)
        x, items = self.own_vectors[own], self.own_items[own]
        return x @ self.spread @ x.T + self.whole[np.ix_(items, items)]

    def expected(self, levels: tuple[tuple[float, float], ...]) -> np.ndarray:
        """Mean, variance and noise level of each row, by conditioning in the joint normal distribution."""
        found = []
        for user, item, x in zip(self.place, self.items, self.vectors, strict=True):
            own, known = self.own(user), self.covariance(user)
            cross = x @ self.spread @ self.own_vectors[own].T + self.whole[item, self.own_items[own]]
            itself = x @ self.spread @ x + self.whole[item, item]
            means, variances, weights = [], [], []
            for scale, chance in levels:
                covariance = known + scale * np.diag(self.noise[own])
                means.append(cross @ np.linalg.solve(covariance, self.residuals[own]))
                variances.append(itself - cross @ np.linalg.solve(covariance, cross))
                log_density = 0.0
                if self.counts[user]:
                    centre = np.zeros(len(covariance))
                    log_density = multivariate_normal(centre, covariance).logpdf(self.residuals[own])
                weights.append(np.log(chance) + log_density)
            shares = np.exp(np.array(weights) - max(weights))
            shares /= shares.sum()
            level = shares @ [scale for scale, _ in levels]
            found.append((shares @ means, variances[int(np.argmax(shares))], level))
        return np.array(found)


def check(case: Case, levels: tuple[tuple[float, float], ...]) -> None:
    found = torch.stack(case.predict(case.kriging(levels)), 1).numpy()
    np.testing.assert_allclose(found, case.expected(levels).reshape(-1, 3), rtol=1e-6, atol=1e-7)


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 40), seeds)
def test_predictions_are_those_of_the_gaussian_process(counts, queries, seed):
    check(Case(counts, queries, seed), ((1.0, 1.0),))


@few
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 40), seeds)
def test_noise_levels_are_averaged_by_their_evidence(count, users, queries, seed):
    check(Case([count] * users, queries, seed), LEVELS)


def test_a_user_s_noise_levels_do_not_depend_on_who_shares_the_block():
    check(Case([1, 2, 8, 5, 20], 30), LEVELS)


def test_a_user_without_ratings_has_the_prior():
    case = Case([4, 0, 0, 7], 20)
    mean, variance, _ = case.predict(case.kriging())
    without = torch.from_numpy((case.place == 1) | (case.place == 2))
    assert without.any()
    assert (mean[without] == 0).all()
    prior = np.einsum("na,ab,nb->n", case.vectors, case.spread, case.vectors) + np.diag(case.whole)[case.items]
    np.testing.assert_allclose(variance[without], prior[without.numpy()], rtol=1e-9)
    np.testing.assert_allclose(torch.stack([mean, variance], 1), case.expected(((1.0, 1.0),))[:, :2], rtol=1e-6)


def test_the_noise_level_is_weighed_by_the_user_s_own_evidence():
    """One user much louder than the noise says, one much quieter."""
    case = Case([30, 30], 10)
    case.residuals[:30] *= 4
    case.residuals[30:] *= 0.05
    _, _, level = case.predict(case.kriging(LEVELS))
    assert (level[torch.from_numpy(case.place == 0)] > 2.4).all()
    assert (level[torch.from_numpy(case.place == 1)] < 0.6).all()


@pytest.mark.parametrize("levels", [((1.0, 1.0),), LEVELS])
def test_threads_do_not_change_a_bit(levels):
    case = Case([1, 30, 4, 4, 17, 50, 2, 9], 300)
    one, three = (case.predict(case.kriging(levels, threads)) for threads in (1, 3))
    assert all(torch.equal(first, second) for first, second in zip(one, three, strict=True))


def test_blocks_change_nothing_but_rounding(monkeypatch):
    case = Case([1, 30, 4, 4, 17, 50, 2, 9], 300)
    whole = case.predict(case.kriging())
    monkeypatch.setattr(kriging, "BLOCK", 40)
    for one, other in zip(whole, case.predict(case.kriging()), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_influence_of_the_own_ratings_adds_up_to_the_mean():
    case = Case([5, 12, 1], 40)
    with_kriging = case.kriging()
    mean, _, _ = case.predict(with_kriging)
    for user in range(3):
        mine = case.place == user
        found = with_kriging.influence(user, torch.from_numpy(case.items[mine]), torch.from_numpy(case.vectors[mine]))
        assert found.shape == (mine.sum(), case.counts[user])
        torch.testing.assert_close(found.sum(1), mean[torch.from_numpy(mine)], rtol=0, atol=1e-10)
        own, weights = case.own(user), np.linalg.inv(case.covariance(user) + np.diag(case.noise[case.own(user)]))
        cross = case.vectors[mine] @ case.spread @ case.own_vectors[own].T
        cross += case.whole[np.ix_(case.items[mine], case.own_items[own])]
        np.testing.assert_allclose(found, cross * (weights @ case.residuals[own]), rtol=1e-6, atol=1e-8)


def test_more_ratings_never_make_a_prediction_less_sure():
    few_ratings, many = Case([10], 30), Case([10], 30)
    many.counts = [9]
    for name in ("own_items", "own_vectors", "residuals", "noise"):
        setattr(many, name, getattr(many, name)[:9])
    _, with_ten, _ = few_ratings.predict(few_ratings.kriging())
    _, with_nine, _ = many.predict(many.kriging())
    assert (with_ten <= with_nine + 1e-12).all()
    assert (with_ten > 0).all()
