"""Exact noise: the probabilities are those of the formula, and every value lies on the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from hierfed.errors import HierfedError
from hierfed.privacy.discrete_gaussian import (
    FINEST_GRID,
    LEAST_STEPS,
    bernoulli_exp,
    discrete_gaussian,
    discrete_gaussian_steps,
    grid_of,
    on_grid,
)
from hierfed.private_randomness import PrivateStream, PrivateStreams


def stream(number: int = 0) -> PrivateStream:
    return PrivateStreams(bytes(32)).stream(0, number, "test")


@pytest.mark.parametrize("variance", [1, 2, 7, 60, 400])
def test_integers_come_as_often_as_the_formula_says(variance):
    drawn = discrete_gaussian_steps(stream(variance), variance, 60_000)
    reach = int(4 * math.sqrt(variance)) + 1
    values = np.arange(-reach, reach + 1)
    likely = np.exp(-(values.astype(float) ** 2) / (2 * variance))
    # Computed far beyond the reach, so that it is the whole distribution's.
    every = np.arange(-60 * reach, 60 * reach + 1).astype(float)
    share = likely / np.exp(-(every**2) / (2 * variance)).sum()
    seen = np.array([np.count_nonzero(drawn == value) for value in values])
    outside = len(drawn) - seen.sum()
    found = chisquare([*seen, outside], len(drawn) * np.append(share, 1 - share.sum()))
    assert found.pvalue > 1e-3


@pytest.mark.parametrize("numerator", [0, 1, 3, 7, 12, 30])
def test_a_coin_lands_as_the_exponential_says(numerator):
    count, share = 40_000, math.exp(-numerator / 7)
    heads = bernoulli_exp(stream(numerator), np.full(count, numerator), 7).sum()
    assert abs(heads - count * share) <= 4 * math.sqrt(count * share * (1 - share))


@given(deviation=st.floats(1e-2, 1e4), seed=st.integers(0, 5))
def test_noise_lies_on_its_grid_and_has_its_deviation(deviation, seed):
    grid = grid_of(deviation)
    assert math.log2(grid).is_integer()
    assert LEAST_STEPS <= deviation / grid < 2 * LEAST_STEPS
    noise = discrete_gaussian(stream(seed), deviation, grid, 400)
    assert torch.equal((noise / grid).round() * grid, noise)
    # A chi of 400 degrees of freedom is within these bounds but for one in ten million.
    assert 0.81 < float(noise.square().mean().sqrt()) / deviation < 1.20


def test_the_same_stream_gives_the_same_noise_and_another_one_another():
    first, again, other = (discrete_gaussian(stream(number), 1.0, grid_of(1.0), 50) for number in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_noise_is_zero_on_the_finest_grid():
    assert grid_of(0.0) == FINEST_GRID
    assert not discrete_gaussian(stream(), 0.0, FINEST_GRID, 9).any()


@pytest.mark.parametrize("variance", [0, -1, (1 << 24) + 1])
def test_variances_that_cannot_be_drawn_exactly_are_refused(variance):
    with pytest.raises(ValueError, match="squared steps"):
        discrete_gaussian_steps(stream(), variance, 1)


def test_noise_too_fine_for_the_grid_is_refused_in_one_line():
    with pytest.raises(HierfedError, match=r"raise privacy\.clip_norm"):
        grid_of(1e-5)


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20).map(torch.tensor),
    grid=st.sampled_from([2.0**-20, 2.0**-4, 1.0]),
)
def test_rounding_to_the_grid_never_lengthens(values, grid):
    values = values.double()
    found = on_grid(values, grid)
    assert torch.all(found.abs() <= values.abs())
    assert torch.all((values - found).abs() < grid)
    assert torch.equal((found / grid).round() * grid, found)
