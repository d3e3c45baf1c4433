"""The paired t-test against scipy.stats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from hierfed.evaluation.paired import paired_p_value

pairs = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=2, max_size=30)


@settings(max_examples=80, deadline=None)
@given(pairs)
def test_the_p_value_equals_scipys_for_paired_samples(found):
    left, right = (np.array(side) / 128 for side in zip(*found, strict=True))
    assume(len(set((left - right).tolist())) > 1)
    assert paired_p_value(left - right) == pytest.approx(ttest_rel(left, right).pvalue, rel=1e-9, abs=1e-300)


def test_a_published_example_has_its_published_p_value():
    # Student (1908): hours of sleep gained by ten patients under two drugs; t = 4.0621, p = .002833.
    gained = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert paired_p_value(gained) == pytest.approx(0.002833, abs=5e-7)


def test_undefined_differences_are_left_out():
    gained = np.array([0.5, np.nan, 0.25, -0.125, np.inf])
    assert paired_p_value(gained) == paired_p_value(np.array([0.5, 0.25, -0.125]))


@pytest.mark.parametrize(
    "differences", [[], [0.3], [0.3, np.nan], [0.5, 0.5, 0.5], [0.0, 0.0]], ids=["none", "one", "one", "equal", "zero"]
)
def test_there_is_no_p_value_of_fewer_than_two_differences_or_of_equal_ones(differences):
    assert paired_p_value(np.array(differences)) is None


@pytest.mark.parametrize("differences", [[0.1] * 3, [0.7] * 6, [0.3] * 10], ids=str)
def test_equal_differences_have_no_p_value(differences):
    assert paired_p_value(np.array(differences)) is None
