"""Any rating scale is stretched onto the one from half a star to five, and that one is left as it is, bit by bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hierfed.models.scale import UNCHANGED, header_of, scale_of

STEPS = np.arange(1, 11) / 2


def test_the_scale_of_movielens_is_left_as_it_is():
    assert scale_of((0.5, 5.0)) == UNCHANGED
    numbers = np.random.default_rng(0).normal(size=1000)
    assert np.array_equal(UNCHANGED.learned(numbers), numbers)
    assert np.array_equal(UNCHANGED.in_stars(numbers), numbers)


@pytest.mark.parametrize(
    ("limits", "unit", "zero"),
    [
        ((10, 100), 20, 0),
        ((1, 10), 2, 0),
        ((0, 9), 2, -1),
        ((-10, 8), 4, -12),
        ((0, 4.5), 1, -0.5),
        ((0, 90), 20, -10),
        ((-9, 0), 2, -10),
        ((1, 5), 4 / 4.5, 1 - 2 / 4.5),
        ((0, 100), 100 / 4.5, -50 / 4.5),
        ((0, 1), 1 / 4.5, -0.5 / 4.5),
        ((3, 3), 1, 2.5),
    ],
)
def test_the_lowest_rating_is_learned_as_half_a_star_and_the_highest_as_five(limits, unit, zero):
    scale = scale_of(limits)
    assert (scale.unit, scale.zero) == pytest.approx((unit, zero), rel=1e-15)
    assert scale.learned(float(limits[0])) == pytest.approx(0.5)
    if limits[0] < limits[1]:
        assert scale.learned(float(limits[1])) == pytest.approx(5.0)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), share=st.floats(0, 1))
def test_what_is_learned_goes_back_to_the_rating(low, width, share):
    scale, rating = scale_of((low, low + width)), low + share * width
    assert scale.in_stars(scale.learned(rating)) == pytest.approx(rating, rel=1e-9, abs=1e-6)


def test_arrays_and_tensors_keep_their_types():
    scale = scale_of((10.0, 100.0))
    ratings = (20 * STEPS).astype(np.float32)
    assert scale.learned(ratings).dtype == np.float32
    assert np.array_equal(scale.learned(ratings), STEPS)
    assert torch.equal(scale.in_stars(torch.from_numpy(STEPS)), torch.from_numpy(20 * STEPS))


def test_a_header_gives_the_line_back():
    told = header_of(scale_of((1.0, 5.0)))
    assert (float(told["unit"]), float(told["zero"])) == (4 / 4.5, 1 - 0.5 * (4 / 4.5))
