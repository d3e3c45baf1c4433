"""Calls of the hierarchical model beside its rounds, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierfed.federated.contract import SharedModel
from hierfed.federated.method import JudgedItems
from hierfed.results import ThresholdRecord


def test_what_the_threshold_costs_is_seen_on_rows_of_items_under_it(make_content, make_factors):
    shared = SharedModel({"raters": torch.tensor([0.0, 4.0, 5.0, 9.0], dtype=torch.float64)})
    judged = JudgedItems(np.array([0, 1, 2, 3, 1]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))

    def cost_of(threshold: int) -> ThresholdRecord:
        record = make_factors(make_content(4), threshold=threshold).threshold_record(shared, judged)
        assert record is not None
        return record

    found = cost_of(5)
    assert (found.min_raters, found.items, found.rows) == (5, 2, 3)
    assert found.rmse == pytest.approx(np.sqrt((1 + 4 + 25) / 3))
    assert found.rmse_others == pytest.approx(np.sqrt((9 + 16) / 2))
    none = cost_of(0)
    assert (none.items, none.rows) == (0, 0)
    assert np.isnan(none.rmse)
    assert none.rmse_others == pytest.approx(np.sqrt(55 / 5))
    assert np.isnan(cost_of(10).rmse_others)
