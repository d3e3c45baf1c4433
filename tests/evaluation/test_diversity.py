"""The diversity of lists against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hierfed.evaluation.diversity import diversity

GENRES = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5]])
RATED = np.array([[True, False, False, False], [True, False, True, False], [False, True, False, False]])


def test_lists_worked_out_by_hand():
    found = diversity(np.array([[1, 2], [1, 3], [0, 2]]), RATED, GENRES)
    assert found.coverage == 1.0
    raters = [2, 1, 1, 0]
    surprise = [-math.log2((count + 1) / 4) for count in raters]
    assert found.novelty == pytest.approx((2 * surprise[1] + 2 * surprise[2] + surprise[3] + surprise[0]) / 6)
    # Shown 1, 2, 2 and 1 times: the mean absolute difference over twice the mean.
    shown = [1, 2, 2, 1]
    gini = sum(abs(a - b) for a in shown for b in shown) / (2 * 16 * np.mean(shown))
    assert found.gini == pytest.approx(gini)
    first = math.log(1 / (0.99 * 0.5 + 0.01))
    second = 0.5 * math.log(0.5 / (0.99 * 0.75 + 0.005)) + 0.5 * math.log(0.5 / (0.99 * 0.25 + 0.005))
    assert found.miscalibration == pytest.approx((2 * first + second) / 3)


def test_one_item_for_all_is_the_least_diverse():
    same, rated = np.zeros((5, 1), int), np.zeros((5, 4), bool)
    found = diversity(same, rated, np.zeros((4, 2)))
    assert (found.coverage, found.gini) == (0.25, 0.75)
    assert math.isnan(found.miscalibration)
