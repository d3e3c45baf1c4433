"""Scores and blends against sums by hand, and what must leave a list as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.methods.ranking.scores import (
    blend,
    known_items,
    known_raters,
    own_users_matrix,
    popularity,
    standardise,
)

# Whole numbers tie often, and stay apart under the transforms below.
tables = arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 30)), elements=st.integers(-6, 6))


def rows(pairs: list[tuple[int, int]]) -> Ratings:
    user, item = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    return Ratings(user, item, np.linspace(1, 5, len(pairs), dtype=np.float32))


def test_a_node_s_matrix_has_its_own_users_alone():
    ratings = rows([(5, 2), (0, 1), (5, 2), (5, 0)])
    assert own_users_matrix(ratings, 4).toarray().tolist() == [[0, 1, 0, 0], [1, 0, 1, 0]]


def test_items_with_too_few_raters_are_not_known():
    raters = torch.tensor([3.0, 4.0, 0.0, 9.0], dtype=torch.float64)
    known = known_raters(raters, 4)
    assert known.tolist() == pytest.approx([0, 14 / 3, 0, 28 / 3])
    assert known_items(known).tolist() == [1, 3]


def test_popularity_is_the_same_for_all_and_of_runs_of_before_the_raters():
    raters, scores = torch.tensor([5.0, 0.0, 7.0]), torch.tensor([4.9, 0.0, 6.8])
    assert torch.equal(popularity(SharedModel({"raters": raters, "popularity": scores}, 1), 2), scores.expand(2, -1))
    assert torch.equal(popularity(SharedModel({"raters": raters}, 1), 3), raters.expand(3, -1))


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_standardised_scores_have_no_unit_and_no_origin(table, unit, origin):
    scores = torch.from_numpy(table)
    found = standardise(scores)
    alike = (scores == scores[:, :1]).all(1)
    assert not found[alike].any()
    torch.testing.assert_close(found.mean(1), torch.zeros(len(found), dtype=torch.float64), rtol=0, atol=1e-9)
    ones = torch.ones(int((~alike).sum()), dtype=torch.float64)
    torch.testing.assert_close(found[~alike].square().mean(1), ones, rtol=1e-9, atol=0)
    torch.testing.assert_close(standardise(unit * scores + origin), found, rtol=0, atol=1e-6)


def test_a_blend_weighs_standardised_scores_and_leaves_out_models_without_a_weight():
    scores = {
        "ease": torch.tensor([[0.0, 2.0], [5.0, 5.0]]).double(),
        "rating": torch.tensor([[30.0, 10.0], [1.0, 3.0]]).double(),
        "other": torch.full((2, 2), math.nan).double(),
    }
    assert blend(scores, {"ease": 1.0, "rating": 0.25}).tolist() == [[-0.75, 0.75], [-0.25, 0.25]]
    with pytest.raises(KeyError, match="implicit"):
        blend(scores, {"ease": 1.0, "implicit": 1.5, "rating": 1.2})
