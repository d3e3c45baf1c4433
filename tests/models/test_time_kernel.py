"""Kriging over items and times against the formulas of a Gaussian process, user by user, in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.models.kriging import Kriging
from hierfed.models.time_kernel import NO_TIME, TimeKernel
from tests.models.dense import Dense, dense_kriging
from tests.models.test_kriging import Case

DAY = 86_400
TIME = TimeKernel(sitting=0.3, day=0.2, drift=0.4, items=0.7)


class TimedCase(Case):
    """Ratings that were given in sittings of some minutes, days to years apart."""

    def __init__(self, counts: list[int], queries: int, seed: int = 0, time: TimeKernel = TIME):
        super().__init__(counts, queries, seed)
        rng = np.random.default_rng([seed, 1])
        sittings = 1_400_000_000 + rng.integers(0, 400 * DAY, 4)
        self.given, self.asked = (
            rng.choice(sittings, size) + rng.integers(0, 2000, size) for size in (sum(counts), queries)
        )
        self.time = time

    def kriging(self, threads: int = 1) -> Kriging:
        plain = super().kriging(threads)
        own = replace(plain.observations, times=torch.from_numpy(self.given).double())
        return replace(plain, kernel=replace(plain.kernel, time=self.time), observations=own)

    def at_times(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean, variance and factor on the noise of each query, the times of the queries known."""
        asked = map(torch.from_numpy, (self.place, self.items, self.vectors, self.asked.astype(float)))
        return self.kriging().predict(*asked)

    def similar(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factor on the kernel of items, and what is added to it, by times in seconds."""
        days = np.abs(first[:, None] - second[None]) / DAY
        added = 0.3 * np.exp(-days / 0.005) + 0.2 * np.exp(-days / 0.5) + 0.4 * np.exp(-days / 100)
        return 1 + 0.7 * np.exp(-days / 0.01), added

    def dense(self, user: int, rows: np.ndarray) -> Dense:
        own, x = self.own(user), self.vectors[rows]
        items, vectors, given = self.own_items[own], self.own_vectors[own], self.given[own]
        factor, added = self.similar(given, given)
        known = vectors @ self.spread @ vectors.T + factor * self.whole[np.ix_(items, items)] + added
        factor, added = self.similar(self.asked[rows], given)
        cross = x @ self.spread @ vectors.T + factor * self.whole[np.ix_(self.items[rows], items)] + added
        itself = np.einsum("na,ab,nb->n", x, self.spread, x) + 1.7 * np.diag(self.whole)[self.items[rows]] + 0.9
        return dense_kriging(known, self.noise[own], cross, itself, self.residuals[own])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=9), st.integers(1, 30), st.integers(0, 2**32))
def test_predictions_for_moments_are_those_of_processes_over_items_and_times(counts, queries, seed):
    case = TimedCase(counts, queries, seed)
    found = torch.stack(case.at_times(), 1).numpy()
    some = np.array(case.counts)[case.place] > 0
    np.testing.assert_allclose(found[some], case.expected()[some], rtol=1e-6, atol=1e-7)


def test_without_the_times_of_queries_predictions_are_to_the_bit_those_of_items_alone():
    timed, plain = TimedCase([4, 0, 30], 40), Case([4, 0, 30], 40)
    for one, other in zip(timed.predict(timed.kriging()), plain.predict(plain.kriging()), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(timed.at_times()[0], timed.predict(timed.kriging())[0])


@pytest.mark.parametrize("time", [NO_TIME, TIME.scaled(0.0)])
def test_amplitudes_of_zero_are_to_the_bit_no_times(time):
    timed = TimedCase([4, 0, 30], 40, time=time)
    assert not timed.kriging().timed
    for one, other in zip(timed.at_times(), timed.predict(timed.kriging()), strict=True):
        assert torch.equal(one, other)


def test_the_influence_of_a_rating_is_the_change_by_a_fit_without_it():
    case = TimedCase([12], 6)
    asked = torch.from_numpy(case.asked).double()
    queries = torch.from_numpy(case.items), torch.from_numpy(case.vectors)
    moved = case.kriging().influence(0, *queries, asked).moved
    whole = case.at_times()[0]
    for left in range(12):
        less, kept = TimedCase([12], 6), np.arange(12) != left
        less.counts = [11]
        for name in ("own_items", "own_vectors", "residuals", "noise", "given"):
            setattr(less, name, getattr(case, name)[kept])
        torch.testing.assert_close(moved[:, left], whole - less.at_times()[0], rtol=1e-8, atol=1e-9)


def test_a_sitting_tells_of_the_same_sitting_and_of_no_other():
    case = TimedCase([20], 2, time=TimeKernel(sitting=1.0))
    case.given[:], case.asked[:] = 1_400_000_000, [1_400_000_000, 1_400_000_000 + 30 * DAY]
    case.residuals[:] = 1.0
    case.items[:], case.vectors[:] = case.items[0], case.vectors[0]
    mean, variance, _ = case.at_times()
    assert mean[0] > mean[1] + 0.1
    assert variance[0] < variance[1] - 0.1
