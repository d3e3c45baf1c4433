"""The partitioner by activity against users counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hierfed.data.activity import by_activity
from hierfed.errors import DataError


def test_users_with_few_ratings_come_first():
    # Ratings by user: 3 has one, 5 and 8 have two, 9 has four.
    user = np.array([9, 5, 3, 8, 9, 5, 9, 8, 9])
    assert by_activity(user, 2).tolist() == [1, 0, 0, 1, 1, 0, 1, 1, 1]
    assert by_activity(user, 4).tolist() == [3, 1, 0, 2, 3, 1, 3, 2, 3]


def test_more_nodes_than_users_are_refused():
    with pytest.raises(DataError, match="3 nodes cannot share 2 users"):
        by_activity(np.array([1, 1, 2]), 3)
