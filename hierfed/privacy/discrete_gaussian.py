"""The discrete Gaussian on a grid, sampled exactly: from integers and fair bits alone, without floats.

Source: Canonne, Kamath and Steinke, NeurIPS 2020 (arXiv:2004.00010), algorithms 1 to 3.

A sum of such variables is not a discrete Gaussian. Its privacy is that of one with the summed variance, up to a term of
10 sum_k exp(-2 pi^2 s^2 k / (k + 1)), with s the deviation of each in steps (Kairouz, Liu and Steinke, ICML 2021,
arXiv:2102.06387, theorem 1). With at least LEAST_STEPS steps to a deviation, that term is zero in every float.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hierfed.errors import HierfedError
from hierfed.private_randomness import PrivateStream

LEAST_STEPS = 1000
FINEST_GRID = 2.0**-20


def grid_of(deviation: float) -> float:
    """The coarsest power of two with at least LEAST_STEPS to this deviation; FINEST_GRID without noise.

    Raises HierfedError for a deviation that needs a finer grid than FINEST_GRID.
    """
    if not deviation:
        return FINEST_GRID
    grid: float = 2.0 ** math.floor(math.log2(deviation / LEAST_STEPS))
    if grid < FINEST_GRID:
        raise HierfedError(f"noise of deviation {deviation:g} is too fine to be exact: raise privacy.clip_norm")
    return grid


def on_grid(vectors: Tensor, grid: float) -> Tensor:
    """The vectors rounded towards 0 to multiples of the grid, so that no norm grows."""
    return torch.trunc(vectors / grid) * grid


def discrete_gaussian(stream: PrivateStream, deviation: float, grid: float, count: int) -> Tensor:
    """Multiples of `grid` of at least this standard deviation, independent: float64 [count]."""
    if not deviation:
        return torch.zeros(count, dtype=torch.float64)
    variance = math.ceil((deviation / grid) ** 2)
    return torch.from_numpy(discrete_gaussian_steps(stream, variance, count) * grid)


def discrete_gaussian_steps(stream: PrivateStream, variance: int, count: int) -> np.ndarray:
    """Integers x with probabilities that go as exp(-x^2 / (2 variance)): int64 [count]; variance: at most 2^24."""
    if not 0 < variance <= 1 << 24:
        raise ValueError(f"a variance of {variance} squared steps: expected 1 to {1 << 24}")
    scale = math.isqrt(variance) + 1
    found, missing = [], count
    while missing:
        drawn = _discrete_laplace(stream, scale, 2 * missing)
        distance = np.abs(np.abs(drawn) * scale - variance)
        # Larger squares would overflow 64 bits; a value so far out would be kept with a chance below exp(-2000).
        near = distance < 1 << 31
        kept = np.zeros(len(drawn), bool)
        kept[near] = bernoulli_exp(stream, distance[near] ** 2, 2 * variance * scale**2)
        found.append(drawn[kept][:missing])
        missing -= len(found[-1])
    return np.concatenate(found)


def bernoulli_exp(stream: PrivateStream, numerators: np.ndarray, denominator: int) -> np.ndarray:
    """True with probability exp(-numerator / denominator), for numerators of at least 0: bool, as many."""
    whole, rest = np.divmod(numerators, denominator)
    passed = _bernoulli_exp_of_fraction(stream, rest, denominator)
    turns = 0
    while (left := np.flatnonzero(passed & (whole > turns))).size:
        passed[left] = _bernoulli_exp_of_fraction(stream, np.ones(left.size, np.int64), 1)
        turns += 1
    return passed


def _bernoulli_exp_of_fraction(stream: PrivateStream, numerators: np.ndarray, denominator: int) -> np.ndarray:
    """The same for fractions f from 0 to 1.

    Draws Bernoulli(f / k) for k = 1, 2, ... until one fails; the number of successes is even with probability exp(-f).
    """
    result = np.zeros(len(numerators), bool)
    going, turn = np.arange(len(numerators)), 1
    while going.size:
        success = stream.integers(denominator * turn, going.size) < numerators[going]
        result[going[~success]] = turn % 2 == 1
        going, turn = going[success], turn + 1
    return result


def _discrete_laplace(stream: PrivateStream, scale: int, count: int) -> np.ndarray:
    """Integers with probabilities that go as exp(-|x| / scale): int64 [count]."""
    found, missing = [], count
    while missing:
        low = stream.integers(scale, 2 * missing)
        low = low[bernoulli_exp(stream, low, scale)]
        size = low + scale * _turns(stream, low.size)
        negative = stream.integers(2, low.size) == 1
        values = np.where(negative, -size, size)[~(negative & (size == 0))]
        found.append(values[:missing])
        missing -= len(found[-1])
    return np.concatenate(found)


def _turns(stream: PrivateStream, count: int) -> np.ndarray:
    """The number of successes of Bernoulli(exp(-1)) before it fails: int64 [count]."""
    turns = np.zeros(count, np.int64)
    going = np.arange(count)
    while going.size:
        going = going[_bernoulli_exp_of_fraction(stream, np.ones(going.size, np.int64), 1)]
        turns[going] += 1
    return turns
