"""Noise on a grid is what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from hierfed.privacy.rounded_gaussian import rounded_gaussian
from hierfed.private_randomness import PrivateStreams

GRID = 2.0**-20


def drawn(deviation: float, count: int = 40_000) -> np.ndarray:
    return rounded_gaussian(PrivateStreams(bytes(32)).stream(1, 0, "noise"), deviation, GRID, count).numpy()


@pytest.mark.parametrize("deviation", [0.01, 1.7, 300.0])
def test_it_is_normal_with_this_deviation(deviation):
    scaled = drawn(deviation) / deviation
    assert stats.kstest(scaled, "norm").pvalue > 1e-3
    assert 1e-3 < stats.chi2.cdf((scaled**2).sum(), scaled.size) < 1 - 1e-3


def test_it_is_whole_multiples_of_the_grid():
    values = drawn(1.7)
    assert values.dtype == np.float64
    assert np.array_equal(values / GRID, np.rint(values / GRID))


def test_without_deviation_there_is_none():
    assert not torch.from_numpy(drawn(0.0)).any()
