"""The long tails of MovieLens: the numbers of ratings per user, and of raters per film."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from hierfed.randomness import raw_bits, stream_keys, uniforms

# MovieLens has no user with fewer ratings; sparser worlds have. A user's number of ratings minus half of the least is
# log-normal, of this spread.
LEAST_ACTIVITY, ACTIVITY_SPREAD = 20, 1.27
# A film of rank r is expected to be rated by a share TOP_SHARE exp(-k r^RANK_POWER) of the users.
TOP_SHARE, RANK_POWER = 0.5, 0.4
# Ranks between which attractions are interpolated, and classes of users who rate about as much.
MOST_RANKS, MOST_CLASSES = 400, 200
# The least expected frequency, relative to the largest; rarer things are raised to it.
RAREST = 1e-9
NEWTON_STEPS = 60


def activities(seed: int, users: int, items: int, ratings: int, least: int = LEAST_ACTIVITY) -> np.ndarray:
    """The number of films that each user rates: int64 [users], from `least` to `items`; their sum is `ratings`.

    Each is half of `least` more than a log-normal number, given that the total is at least `least`. The median is
    chosen to meet the sum.
    """
    drawn = np.log(uniforms(raw_bits(stream_keys(seed, 0, np.arange(users), "generated activity"), 1)))[:, 0]
    half = least / 2

    def numbers(log_median: float) -> np.ndarray:
        above_half = log_ndtr((log_median - np.log(half)) / ACTIVITY_SPREAD)
        exponents = log_median - ACTIVITY_SPREAD * ndtri_exp(drawn + above_half)
        capped: np.ndarray = np.minimum(half + np.exp(np.minimum(exponents, np.log(items))), items)
        return capped

    def excess(log_median: float) -> float:
        return float(numbers(log_median).sum()) - ratings

    low, high = -1e5, 1e2
    exact = numbers(low if excess(low) > 0 else _root(excess, low, high))
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    missing = ratings - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def expected_raters(users: int, items: int, ratings: int) -> np.ndarray:
    """The expected number of raters of the film of each rank, besides a first rater: float64 [items], descending.

    Let c, a stretched exponential of the rank, be the mean of a Poisson number. The result is c - 1 + exp(-c), the
    expected excess of that number over one. The decay is chosen so that the sum is ratings - items. If most pairs are
    rated, the film of rank 1 has more than TOP_SHARE.
    """
    rest = ratings - items
    if not rest:
        return np.zeros(items)
    density = rest / ((users - 1) * items)
    top = users * (TOP_SHARE + (1 - TOP_SHARE) * density)
    powers = np.arange(1, items + 1) ** RANK_POWER

    def besides_first(decay: float) -> np.ndarray:
        raters = top * np.exp(-decay * powers)
        besides: np.ndarray = raters + np.expm1(-raters)
        return besides

    def excess(decay: float) -> float:
        return float(besides_first(decay).sum()) - rest

    # At the upper end of the bracket there are too few raters, even if all films were as popular as the first.
    return besides_first(_root(excess, 0.0, np.log(top * items / rest) + 1.0))


def attractions(expected: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Weights of draws without replacement that give each thing its expected number of draws.

    In successive draws with probabilities in proportion to weights w, a thing is among the first s with probability of
    about 1 - exp(-t w), where t is such that these probabilities sum to s (Rosén, Annals of Mathematical Statistics
    1972).
    Returns weights that sum to 1.

    expected: descending, float64 [things].
    sizes: number of things that each drawer draws; their sum is that of `expected`.
    """
    ranks = np.arange(1, len(expected) + 1)
    if len(expected) > MOST_RANKS:
        ranks = np.unique(np.round(np.geomspace(1, len(expected), MOST_RANKS)).astype(np.int64))
    like = np.diff(np.concatenate([[0.5], (ranks[1:] + ranks[:-1]) / 2, [len(expected) + 0.5]]))
    wanted = expected[ranks - 1]
    drawers, drawn = _classes(sizes)
    # The interpolated ranks stand for their neighbours, so the sums differ a little.
    wanted = np.maximum(wanted * (drawers @ drawn) / (like @ wanted), RAREST * wanted.max())
    log_weights = np.log(wanted)
    for _ in range(NEWTON_STEPS):
        rates = np.exp(log_weights)[:, None] * _times(np.exp(log_weights), like, drawn)
        missed = np.exp(-rates)
        error = wanted - (1 - missed) @ drawers
        log_weights += np.clip(error / ((rates * missed) @ drawers + 1e-300), -1, 1)
        log_weights -= log_weights.max()
        if np.abs(error).max() < 1e-6 * wanted.max():
            break
    weights: np.ndarray = np.exp(np.interp(np.log(np.arange(1, len(expected) + 1)), np.log(ranks), log_weights))
    normalised: np.ndarray = weights / weights.sum()
    return normalised


def distinct_after(weights: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The expected number of different things after so many draws with replacement: float64, the shape of `draws`."""
    return np.array([-np.expm1(-each * weights).sum() for each in draws])


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where a function between a value above and one below zero is zero."""
    # scipy.optimize takes .3 s, and readers of a world that is made already need the rest of this module alone.
    from scipy.optimize import brentq  # noqa: PLC0415

    return float(brentq(excess, low, high))


def _classes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of drawers with about the same number of draws, and these draws' mean."""
    ordered = np.sort(sizes[sizes > 0])
    edges = np.unique(np.round(len(ordered) * (1 - np.geomspace(1, 1 / len(ordered), MOST_CLASSES))).astype(np.int64))
    drawers = np.diff(np.concatenate([edges, [len(ordered)]]))
    return drawers.astype(float), np.add.reduceat(ordered, edges) / drawers


def _times(weights: np.ndarray, like: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """t of each class: the time of a race at which `drawn` things are expected to have arrived."""
    grid = np.geomspace(1e-6, 1e6, 1000) / (like @ weights)
    come = like @ -np.expm1(-weights[:, None] * grid)
    times: np.ndarray = np.exp(np.interp(drawn, come, np.log(grid)))
    return times
