"""Times: ascending for each user, within the data's years, in sittings, and nobody depends on company."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.generated.times import (
    END,
    HALF_STARS_SINCE,
    SECONDS_A_DAY,
    SECONDS_A_YEAR,
    START_SHARES,
    START_YEARS,
    first_times,
    rating_times,
)

USERS = np.arange(3000)
ACTIVITY = 20 + (7919 * USERS) % 150


@pytest.fixture(scope="module")
def by_user() -> list[np.ndarray]:
    times = rating_times(4, USERS, first_times(4, len(USERS)), ACTIVITY)
    return np.split(times, np.cumsum(ACTIVITY)[:-1])


def test_first_times_are_spread_as_measured():
    years = 1970 + first_times(0, 20_000) / SECONDS_A_YEAR
    assert np.quantile(years, START_SHARES) == pytest.approx(START_YEARS, abs=0.4)
    assert (first_times(0, 20_000) < HALF_STARS_SINCE).mean() == pytest.approx(0.49, abs=0.02)


def test_a_user_s_times_ascend_from_the_first_to_the_end_of_the_data(by_user):
    first = first_times(4, len(USERS))
    for times, begin in zip(by_user, first, strict=True):
        assert times[0] == begin
        assert (np.diff(times) >= 0).all()
        assert times[-1] <= END


def test_users_rate_in_sittings(by_user):
    """Bands around quantiles of ml-latest-small: 1, 3 and 10 days with ratings, 2, 10 and 34 seconds between."""
    days = [len(np.unique(times // SECONDS_A_DAY)) for times in by_user]
    middle, upper, tenth = np.quantile(days, [0.5, 0.75, 0.9])
    assert 1 <= middle <= 2
    assert 2 <= upper <= 4
    assert 6 <= tenth <= 14
    gaps = np.concatenate([np.diff(times) for times in by_user])
    low, median, high = np.quantile(gaps, [0.25, 0.5, 0.75])
    assert 1 <= low <= 4
    assert 8 <= median <= 12
    assert 30 <= high <= 60


def test_a_user_s_times_are_the_same_in_whatever_company(by_user):
    chosen = np.array([2999, 5, 17])
    some = rating_times(4, chosen, first_times(4, len(USERS))[chosen], ACTIVITY[chosen])
    assert some.tolist() == np.concatenate([by_user[user] for user in chosen]).tolist()
