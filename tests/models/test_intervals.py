"""The width of intervals against the quantile of a normal distribution in tables."""

from __future__ import annotations

import pytest
import torch

from hierfed.models.intervals import INTERVAL_LEVEL, group_names, group_of, half_width, quantile


def test_nine_of_ten_normal_errors_are_within_1_645_deviations():
    assert INTERVAL_LEVEL == 0.9
    assert quantile() == pytest.approx(1.6448536269514722, rel=1e-12)
    widths = half_width(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)).tolist()
    assert widths == pytest.approx([0, 1.6448536269514722, 3.2897072539029444], rel=1e-12)


def test_groups_are_whole_numbers_of_own_ratings_from_their_first_to_their_last():
    counts = torch.tensor([0, 9, 10, 19, 20, 79, 80, 159, 160, 4000])
    assert group_of(counts).tolist() == [0, 0, 1, 1, 2, 3, 4, 4, 5, 5]
    names = [group_names()[group] for group in group_of(counts).tolist()]
    assert names[:4] == ["0 to 9", "0 to 9", "10 to 19", "10 to 19"]
    assert names[-1] == "160 or more"
