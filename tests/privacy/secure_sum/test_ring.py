import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.privacy.secure_sum.ring import Ring

WORD = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
RING = Ring(narrow=2, wide=3)
VECTOR = st.lists(WORD, min_size=RING.words, max_size=RING.words).map(lambda words: np.array(words, np.uint64))


def elements(vector):
    """The integers that a vector stands for."""
    words = [int(word) for word in vector]
    return words[:2], [words[2 + k] + (words[5 + k] << 64) for k in range(3)]


def modular(first, second, sign):
    (narrow, wide), (narrow2, wide2) = elements(first), elements(second)
    return (
        [(a + sign * b) % 2**64 for a, b in zip(narrow, narrow2, strict=True)],
        [(a + sign * b) % 2**128 for a, b in zip(wide, wide2, strict=True)],
    )


@settings(deadline=None)
@given(VECTOR, VECTOR)
def test_addition_and_subtraction_are_those_of_integers(first, second):
    total = first.copy()
    RING.add(total, second)
    assert elements(total) == modular(first, second, 1)
    difference = first.copy()
    RING.subtract(difference, second)
    assert elements(difference) == modular(first, second, -1)
    RING.subtract(total, second)
    assert np.array_equal(total, first)


@pytest.mark.parametrize("ring", [Ring(4, 0), Ring(0, 2), Ring(0, 0)])
def test_either_part_may_be_empty(ring):
    ones = ring.zeros()
    ones[:] = 2**64 - 1
    total = ones.copy()
    ring.subtract(total, ones)
    assert not total.any()
    ring.add(total, ones)
    assert np.array_equal(total, ones)
