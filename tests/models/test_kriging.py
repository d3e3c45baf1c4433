"""Kriging against the formulas of a Gaussian process, user by user, in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.gaussian_process.kernels import Matern

from hierfed.models import kriging, noise_levels
from hierfed.models.kernel import ItemKernel
from hierfed.models.kriging import Kriging, Observations
from hierfed.models.noise_levels import LEVELS
from tests.models.dense import Dense, dense_kriging

ITEMS, WEIGHTS = 60, 3
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

    def kriging(self, threads: int = 1) -> Kriging:
        observations = Observations(
            counts=torch.tensor(self.counts),
            items=torch.from_numpy(self.own_items).long(),
            ratings=torch.zeros(len(self.noise)).double(),
            vectors=torch.from_numpy(self.own_vectors),
            residuals=torch.from_numpy(self.residuals),
            noise=torch.from_numpy(self.noise),
        )
        return Kriging(self.kernel, torch.from_numpy(self.spread), observations, threads)

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

    def cross(self, user: int, rows: np.ndarray) -> np.ndarray:
        """Covariances of these queries with the user's own ratings."""
        own = self.own(user)
        cross = self.vectors[rows] @ self.spread @ self.own_vectors[own].T
        return np.asarray(cross + self.whole[np.ix_(self.items[rows], self.own_items[own])])

    def dense(self, user: int, rows: np.ndarray) -> Dense:
        """What is expected of the user at these queries."""
        own, x = self.own(user), self.vectors[rows]
        itself = np.einsum("na,ab,nb->n", x, self.spread, x) + np.diag(self.whole)[self.items[rows]]
        return dense_kriging(
            self.covariance(user), self.noise[own], self.cross(user, rows), itself, self.residuals[own]
        )

    def expected(self) -> np.ndarray:
        """Mean, variance and factor on the noise of each row."""
        found = np.zeros((len(self.place), 3))
        for user in np.unique(self.place):
            rows = np.flatnonzero(self.place == user)
            dense = self.dense(user, rows)
            found[rows] = np.column_stack([dense.mean, dense.variance, np.full(len(rows), dense.loudness)])
        return found


def check(case: Case) -> None:
    found = torch.stack(case.predict(case.kriging()), 1).numpy()
    np.testing.assert_allclose(found, case.expected(), rtol=1e-6, atol=1e-7)


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 4), seeds)
def test_evidence_is_the_density_of_the_ratings_but_for_their_number(counts, copies, seed):
    case = Case(counts * (copies + 1), 0, seed)
    dense = [case.dense(user, np.zeros(0, int)).evidence for user in range(len(case.counts))]
    left = (case.kriging().evidence().numpy() - dense).reshape(copies + 1, len(counts))
    np.testing.assert_allclose(left, np.broadcast_to(left[:1], left.shape), rtol=0, atol=1e-5)


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), seeds)
def test_own_fits_are_inverse_covariances_of_the_own_ratings(counts, seed):
    case, seen = Case(counts, 0, seed), []
    for fit in case.kriging().own_fits():
        for place, user in enumerate(fit.users.tolist()):
            inside = fit.inside[place].numpy()
            dense, own = case.dense(user, np.zeros(0, int)), case.own(user)
            inverse = fit.inverse[place].numpy()
            np.testing.assert_allclose(inverse[np.ix_(inside, inside)], dense.inverse, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(fit.items[place].numpy()[inside], case.own_items[own])
            np.testing.assert_array_equal(fit.vectors[place].numpy()[inside], case.own_vectors[own])
            solution = dense.inverse @ case.residuals[own]
            np.testing.assert_allclose(fit.solution[place].numpy()[inside], solution, rtol=1e-6, atol=1e-7)
            assert not inverse[~inside].any()
            assert not inverse[:, ~inside].any()
            assert not fit.solution[place].numpy()[~inside].any()
            seen.append(user)
    assert sorted(seen) == list(range(len(counts)))


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 40), seeds)
def test_predictions_are_those_of_processes_averaged_by_their_evidence(counts, queries, seed):
    check(Case(counts, queries, seed))


@pytest.mark.parametrize("counts", [[1], [1, 2, 8, 5, 20], [58, 60], [0, 3]])
def test_one_rating_or_many_with_others_in_the_block_or_without(counts):
    check(Case(counts, 30))


@pytest.mark.parametrize("residual", [0.0, 0.7])
def test_a_user_who_always_gives_the_same(residual):
    case = Case([20, 4], 20)
    case.residuals[:] = residual
    check(case)


def test_almost_no_noise_gives_the_own_ratings_again():
    case = Case([12], 12)
    case.noise[:] = 1e-9
    case.items, case.vectors = case.own_items, case.own_vectors
    mean, variance, loudness = case.predict(case.kriging())
    np.testing.assert_allclose(mean, case.residuals, atol=1e-6)
    np.testing.assert_allclose(variance, 0, atol=1e-6)
    assert (loudness > 0).all()


def test_noise_of_none_at_all_is_no_error():
    case = Case([12, 5], 20)
    case.noise[:] = 0
    check(case)


def test_a_user_without_ratings_has_the_prior():
    case = Case([4, 0, 0, 7], 20)
    mean, variance, loudness = case.predict(case.kriging())
    without = torch.from_numpy((case.place == 1) | (case.place == 2))
    assert without.any()
    assert (mean[without] == 0).all()
    assert (loudness[without] == 1).all()
    prior = np.einsum("na,ab,nb->n", case.vectors, case.spread, case.vectors) + np.diag(case.whole)[case.items]
    np.testing.assert_allclose(variance[without], prior[without.numpy()], rtol=1e-9)


def test_the_noise_is_scaled_by_the_user_s_own_evidence():
    """One user much louder than the noise says, one much quieter."""
    case = Case([30, 30], 10)
    case.residuals[:30] *= 4
    case.residuals[30:] *= 0.05
    _, _, loudness = case.predict(case.kriging())
    assert (loudness[torch.from_numpy(case.place == 0)] > 4).all()
    assert (loudness[torch.from_numpy(case.place == 1)] < 0.5).all()


def test_a_user_of_nothing_but_noise_is_followed_less():
    """The same residuals, once as smooth over the items as the kernel says, and once shuffled."""
    rng, smooth = np.random.default_rng(0), Case([50], 1)
    root = np.linalg.cholesky(smooth.covariance(0) + 1e-9 * np.eye(50))
    smooth.noise[:] = 0.3
    smooth.residuals = root @ rng.normal(0, 1, 50)
    shuffled = Case([50], 1)
    shuffled.noise[:] = 0.3
    shuffled.residuals = rng.permutation(smooth.residuals)
    rows = np.arange(1)
    assert smooth.dense(0, rows).shares @ np.log(LEVELS) < shuffled.dense(0, rows).shares @ np.log(LEVELS) - 0.5
    check(smooth)
    check(shuffled)


def test_threads_do_not_change_a_bit():
    case = Case([1, 30, 4, 4, 17, 50, 2, 9], 300)
    one, three = (case.predict(case.kriging(threads)) for threads in (1, 3))
    assert all(torch.equal(first, second) for first, second in zip(one, three, strict=True))


def test_blocks_change_nothing_but_rounding(monkeypatch):
    case = Case([1, 30, 4, 4, 17, 50, 2, 9], 300)
    whole = case.predict(case.kriging())
    monkeypatch.setattr(kriging, "BLOCK", 40)
    for one, other in zip(whole, case.predict(case.kriging()), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_more_ratings_that_fit_never_make_a_prediction_less_sure():
    """Residuals of 0 fit at every level alike, so the scale can only shrink."""
    with_ten, with_nine = Case([10], 30), Case([10], 30)
    for case, count in ((with_ten, 10), (with_nine, 9)):
        case.counts = [count]
        for name in ("own_items", "own_vectors", "residuals", "noise"):
            setattr(case, name, getattr(case, name)[:count])
        case.residuals[:] = 0
    (_, ten, _), (_, nine, _) = (case.predict(case.kriging()) for case in (with_ten, with_nine))
    assert (ten <= nine + 1e-12).all()
    assert (ten > 0).all()


def thinned(case: Case, most: int) -> tuple[Case, np.ndarray]:
    """The same with so many ratings of each user at most, evenly spread, and which these are."""
    chosen = [
        np.arange(case.own(user).start, case.own(user).stop)[[place * count // most for place in range(most)]]
        if count > most
        else np.arange(case.own(user).start, case.own(user).stop)
        for user, count in enumerate(case.counts)
    ]
    kept, fewer = np.concatenate(chosen), copy.copy(case)
    fewer.counts = [len(part) for part in chosen]
    for name in ("own_items", "own_vectors", "residuals", "noise"):
        setattr(fewer, name, getattr(case, name)[kept])
    return fewer, kept


@few
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 20), seeds)
def test_of_more_ratings_than_can_be_kriged_as_many_are_that_spread_over_all(counts, most, seed):
    case = Case(counts, 25, seed)
    fewer, kept = thinned(case, most)
    expected = torch.stack(fewer.predict(fewer.kriging()), 1)
    evidence, user = fewer.kriging().evidence(), len(counts) - 1
    queries = torch.from_numpy(case.items), torch.from_numpy(case.vectors)
    moved = fewer.kriging().influence(user, *queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kriging, "MOST_KRIGED", most)
        whole = case.kriging()
        torch.testing.assert_close(torch.stack(case.predict(whole), 1), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(whole.evidence(), evidence, rtol=1e-9, atol=1e-9)
        found = whole.influence(user, *queries)
        fits = {int(fit.users[0]): int(fit.inside.sum(1)[0]) for fit in whole.own_fits()}
    here = kept[fewer.own(user)] - case.own(user).start
    alone, pairs = found.moved[:, : counts[user]], found.moved[:, counts[user] :]
    torch.testing.assert_close(alone[:, here], moved.moved[:, : len(here)], rtol=1e-9, atol=1e-9)
    assert not np.delete(alone.numpy(), here, axis=1).any()
    torch.testing.assert_close(pairs, moved.moved[:, len(here) :], rtol=1e-9, atol=1e-9)
    assert found.left_out[counts[user] :].tolist() == here[moved.left_out[len(here) :].numpy()].tolist()
    assert all(number == min(counts[place], most) for place, number in fits.items())


def test_users_with_many_ratings_are_computed_in_single_precision(monkeypatch):
    case = Case([40, 58], 20)
    exact = case.predict(case.kriging())
    monkeypatch.setattr(kriging, "SINGLE_FROM", 30)
    single = case.predict(case.kriging())
    assert any(not torch.equal(found, expected) for found, expected in zip(single, exact, strict=True))
    for found, expected in zip(single, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_ratings_that_single_precision_cannot_solve_are_computed_in_double(monkeypatch):
    case = Case([20], 12)
    case.own_items[:] = case.own_items[0]
    case.own_vectors[:] = case.own_vectors[0]
    case.noise[:] = 1e-9
    exact = case.predict(case.kriging())
    monkeypatch.setattr(kriging, "SINGLE_FROM", 10)
    for found, expected in zip(case.predict(case.kriging()), exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_levels_without_weight_on_some_ratings_are_left_out(monkeypatch):
    case = Case([58], 20)
    case.residuals[:] = np.linalg.cholesky(case.covariance(0) + np.diag(case.noise)) @ case.residuals
    exact, solved = case.predict(case.kriging()), []
    real = noise_levels._at_levels
    monkeypatch.setattr(noise_levels, "PILOT", 20)
    monkeypatch.setattr(noise_levels, "LEAST_SHARE", 0.25)
    monkeypatch.setattr(
        noise_levels, "_at_levels", lambda *given: solved.append((len(given[4]), given[1].shape[1])) or real(*given)
    )
    few = case.predict(case.kriging())
    assert solved[0] == (3, 20)
    assert solved[1][1] == 58
    assert solved[1][0] < 3
    for found, expected in zip(few, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=0.2, atol=0.2)
