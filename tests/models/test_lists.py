"""Lists against sorting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hierfed.data.ratings import Ratings
from hierfed.models.lists import exclude, rated_matrix, top

# Whole numbers tie often.
tables = arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 30)), elements=st.integers(-6, 6))


def test_rated_matrices_hold_ones_whatever_the_ratings_and_however_often():
    user, item = np.array([5, 0, 5, 5], np.int32), np.array([2, 1, 2, 0], np.int32)
    whole = rated_matrix(Ratings(user, item, np.linspace(1, 5, 4, dtype=np.float32)), users=6, items=4)
    assert whole.toarray()[[0, 5]].tolist() == [[0, 1, 0, 0], [1, 0, 1, 0]]
    assert (whole.sum(), whole.nnz, whole.shape, whole.dtype) == (3, 3, (6, 4), np.float64)


@settings(max_examples=80, deadline=None)
@given(tables, st.integers(1, 35), st.data())
def test_lists_are_sorted_by_score_and_then_by_number_without_the_seen_items(table, length, data):
    seen = data.draw(arrays.arrays(bool, table.shape))
    found = top(exclude(torch.from_numpy(table), torch.from_numpy(seen)), length)
    for scores, known, items in zip(table.tolist(), seen.tolist(), found.tolist(), strict=True):
        order = sorted(range(len(scores)), key=lambda item: (known[item], 0 if known[item] else -scores[item], item))
        assert items == order[:length]


def test_there_is_no_list_of_scores_that_are_not_numbers():
    with pytest.raises(ValueError, match="NaN"):
        top(torch.tensor([[1.0, math.nan]]), 1)


def test_lists_with_ties_are_those_of_a_stable_sort():
    rng = np.random.default_rng(3)
    scores = torch.from_numpy(rng.integers(0, 6, (200, 30)).astype(float))
    scores[rng.random((200, 30)) < 0.4] = -math.inf
    expected = scores.sort(dim=1, descending=True, stable=True).indices
    for length in (0, 1, 4, 17, 30, 40):
        assert torch.equal(top(scores, length), expected[:, :length])
