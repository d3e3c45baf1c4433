"""The times of ratings: each user rates over a minute or over years, page after page, in sittings."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from hierfed.randomness import ragged_bits, raw_bits, stream_keys, uniforms

# These were measured on ml-latest-small of October 2016. The quantile function of users' first ratings, in years.
START_SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
START_YEARS = (1995.02, 1996.49, 1996.74, 1999.75, 2003.57, 2010.48, 2015.50, 2015.93, 2016.58, 2016.79)
SECONDS_A_YEAR, SECONDS_A_DAY = 365.25 * 86400, 86400
# The end of the data, a week after the last user began.
END = int((2016.81 - 1970) * SECONDS_A_YEAR)
# The first half stars: users who began earlier rate in whole stars.
HALF_STARS_SINCE = 1_053_087_543
# Medians and standard deviations of logarithms: seconds between ratings of one sitting, days between sittings, and how
# often a user comes back.
GAP_SECONDS, GAP_SPREAD = 10.0, 2.0
ABSENCE_DAYS, ABSENCE_SPREAD = 8.0, 1.8
RETURNS, RETURNS_SPREAD = 0.6, 2.0


def first_times(seed: int, users: int) -> np.ndarray:
    """The time of each user's first rating: int64 [users], seconds since 1970."""
    drawn = uniforms(raw_bits(stream_keys(seed, 0, np.arange(users), "generated start"), 1))[:, 0]
    years = np.interp(drawn, START_SHARES, START_YEARS)
    seconds: np.ndarray = ((years - 1970) * SECONDS_A_YEAR).astype(np.int64)
    return seconds


def rating_times(seed: int, users: np.ndarray, first: np.ndarray, activity: np.ndarray) -> np.ndarray:
    """The times of these users' ratings, user after user, ascending: int64 [ratings], seconds since 1970.

    Gaps between ratings are log-normal. A user whose ratings would go beyond the end of the data rates faster
    throughout.

    first: the time of each user's first rating.
    activity: number of ratings of each user.
    """
    often, spell, gap = (f"generated {what}" for what in ("returns", "sittings", "gaps"))
    returns = RETURNS * np.exp(RETURNS_SPREAD * ndtri(uniforms(raw_bits(stream_keys(seed, 0, users, often), 1)))[:, 0])
    leaves = uniforms(ragged_bits(stream_keys(seed, 0, users, spell), activity))
    normal = ndtri(uniforms(ragged_bits(stream_keys(seed, 0, users, gap), activity)))
    away = leaves < np.repeat(returns / np.maximum(activity - 1, 1), activity)
    gaps = np.where(
        away,
        ABSENCE_DAYS * SECONDS_A_DAY * np.exp(ABSENCE_SPREAD * normal),
        np.floor(GAP_SECONDS * np.exp(GAP_SPREAD * normal)),
    )
    begins = np.cumsum(activity) - activity
    passed = np.cumsum(gaps)
    passed -= np.repeat(passed[begins], activity)
    last = passed[begins + activity - 1]
    faster = np.minimum((END - first) / np.maximum(last, 1.0), 1.0)
    times: np.ndarray = np.repeat(first, activity) + np.floor(passed * np.repeat(faster, activity)).astype(np.int64)
    return times
