"""Classes of raters: no number in them is told from its neighbours, and bounds stay bounds."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.data.rater_classes import in_order, rounded_means, rounded_up, whole_classes_from

MANY = np.arange(100_000.0)


def classes(threshold: int) -> list[list[int]]:
    """The numbers from the threshold to 99,999 that are told as one."""
    told = rounded_up(MANY, threshold)[threshold:]
    numbers = zip(MANY[threshold:].astype(int).tolist(), told.tolist(), strict=True)
    return [[number for number, _ in each] for _, each in groupby(numbers, lambda pair: pair[1])]


def test_the_classes_are_those_that_the_docs_tell():
    assert [(each[0], each[-1]) for each in classes(5)[:6]] == [(5, 6), (7, 9), (10, 13), (14, 18), (19, 26), (27, 37)]


@pytest.mark.parametrize("threshold", [5, 6, 7, 8, 9, 14, 20, 38, 1000])
def test_no_class_has_one_number_and_each_is_half_as_wide_as_its_first(threshold):
    for each in classes(threshold)[:-1]:
        assert len(each) >= 2
        assert (each[-1] + 1) / each[0] < 2.4
        assert each[0] < 30 or each[-1] / each[0] > 1.3


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 50))
def test_a_number_is_rounded_up_and_never_to_itself(number, threshold):
    (found,) = rounded_up(np.array([float(number)]), threshold)
    if number < max(threshold, 1):
        assert found == 0
    else:
        assert number < found <= 2 * max(number, threshold) + 2
        assert found != round(found)


@settings(deadline=None)
@given(st.integers(5, 10**6))
def test_a_threshold_between_whole_classes_parts_none(threshold):
    first = int(np.ceil(whole_classes_from(threshold)))
    assert first >= threshold
    below, at = rounded_up(np.array([first - 1.0, first]), 1)
    assert below < at


@settings(deadline=None)
@given(st.integers(5, 300), st.integers(0, 10**6))
def test_the_mean_of_ratings_is_one_that_any_number_of_the_class_could_have(number, seed):
    """Of five stars: within half a step of what is told there is a mean of as many ratings as each of the class."""
    said = np.random.default_rng(seed).integers(1, 6, number)
    edges = rounded_up(np.array([float(number)]), 5)
    (told,) = rounded_means(np.array([float(said.sum())]), np.array([float(number)]), edges, (1.0, 5.0))
    half = 0.5 / (edges[0] / 2**0.5)
    assert abs(told - said.mean()) <= half + 1e-9
    for other in next(each for each in classes(5) if number in each):
        means = np.arange(other, 5 * other + 1) / other
        assert np.abs(means - told).min() <= half + 1e-9


def test_ratings_that_are_all_alike_have_that_mean():
    assert rounded_means(np.array([14.0, 0.0]), np.array([7.0, 0.0]), np.array([9.3, 0.0]), (2.0, 2.0)).tolist() == [
        2,
        0,
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 9))
def test_numbers_in_order_stay_in_their_class_and_lists_of_them_are_those_of_the_exact_ones(numbers, threshold):
    exact = np.array(numbers, float)
    edges = rounded_up(exact, threshold)
    found = in_order(exact, edges)
    known = edges > 0
    assert not found[~known].any()
    assert (found[known] < edges[known]).all()
    assert (found[known] > edges[known] / 2**0.5 * (1 - 1e-12)).all()
    assert np.argsort(-found, kind="stable").tolist() == np.argsort(-np.where(known, exact, 0), kind="stable").tolist()
    # Whoever shifts all numbers of a class within it changes nothing.
    shifted = np.where(edges == edges.max(), exact + 1, exact)
    if (rounded_up(shifted, threshold) == edges).all():
        assert np.array_equal(in_order(shifted, edges), found)
