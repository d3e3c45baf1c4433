"""The partitioner by the use of the rating scale, against users sorted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.rating_scale import by_scale
from hierfed.errors import DataError

# Users 2 to 16 with two ratings each: mean and deviation.
SCALE = {2: (4, 1), 4: (2, 0.5), 6: (3, 0), 8: (1.5, 0), 10: (5, 0), 12: (1.75, 1), 14: (3.5, 1), 16: (2.5, 1.5)}
USER = np.repeat(list(SCALE), 2)
VALUE = np.array([mean + sign * spread for mean, spread in SCALE.values() for sign in (-1, 1)])


def of_users(node: np.ndarray) -> dict[int, int]:
    assert (node[::2] == node[1::2]).all()
    return dict(zip(SCALE, node[::2].tolist(), strict=True))


def test_few_nodes_are_sorted_by_the_mean():
    assert of_users(by_scale(USER, VALUE, 2)) == {8: 0, 12: 0, 4: 0, 16: 0, 6: 1, 14: 1, 2: 1, 10: 1}


def test_pairs_of_nodes_share_a_shift_and_differ_in_spread():
    # The low means are 1.5, 1.75, 2, 2.5 with deviations 0, 1, .5, 1.5; the high ones 3, 3.5, 4, 5 with 0, 1, 1, 0.
    assert of_users(by_scale(USER, VALUE, 4)) == {8: 0, 4: 0, 12: 1, 16: 1, 6: 2, 10: 2, 2: 3, 14: 3}


def test_an_odd_last_node_has_a_shift_of_its_own():
    found = of_users(by_scale(USER, VALUE, 5))
    assert {user for user, node in found.items() if node == 4} == {10}


def test_rows_that_must_not_be_known_change_nothing():
    user, value = np.append(USER, [2, 8]), np.append(VALUE, [np.nan, np.nan])
    np.testing.assert_array_equal(by_scale(user, value, 4)[:-2], by_scale(USER, VALUE, 4))
    # Nothing is known of user 10: as one of mean 2.9, between users 16 and 6.
    hidden = np.where(USER == 10, np.nan, VALUE)
    assert of_users(by_scale(USER, hidden, 2)) == {8: 0, 12: 0, 4: 0, 16: 0, 10: 1, 6: 1, 14: 1, 2: 1}


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(DataError, match="9 nodes cannot share 8 users"):
        by_scale(USER, VALUE, 9)
    with pytest.raises(DataError, match="ratings that differ"):
        by_scale(USER, np.ones(16), 2)
