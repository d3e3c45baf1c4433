"""The width of intervals against the quantile of a normal distribution in tables."""

from __future__ import annotations

import pytest
import torch

from hierfed.models.intervals import INTERVAL_LEVEL, half_width, quantile


def test_nine_of_ten_normal_errors_are_within_1_645_deviations():
    assert INTERVAL_LEVEL == 0.9
    assert quantile() == pytest.approx(1.6448536269514722, rel=1e-12)
    widths = half_width(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)).tolist()
    assert widths == pytest.approx([0, 1.6448536269514722, 3.2897072539029444], rel=1e-12)
