"""Calls of the hierarchical model beside its rounds, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node, make_nodes
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.method import JudgedItems, Trained, Tuned
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.selection import select
from hierfed.results import ThresholdRecord
from hierfed.settings import load_settings


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


@pytest.mark.parametrize(("protocol", "again"), [("warm", False), ("temporal", True), ("cold", True), ("loo", True)])
def test_lists_are_chosen_beside_the_training_that_chose_hyperparameters(
    make_content, make_factors, make_pairs, protocol, again
):
    """Unless the protocol judges new users, newest rows, or one row of each: then on other rows."""
    rows = make_pairs(users=40, items=25, seed=7, most=14)
    rows = replace(rows, time=np.arange(len(rows)) + 10**9)
    nobody = rows.between(0, 0)
    nodes = make_nodes(rows, rows.user % 3, nobody, nobody.user, 3)
    small = {"validation_rounds": 2, "trial_users": 20, "implicit_trial": 0, "implicit_rounds": 1, "krige": False}
    asked = load_settings("hierarchical", {**small, "protocol": protocol})
    method, trained = make_factors(make_content(25), kernel=None), list[str]()

    def train(candidate: SumMethod, some: Sequence[Node], rounds: int) -> Trained:
        trained.append(type(candidate).__name__)
        return run_rounds(candidate, some, rounds)

    tuned = select(asked, method, nodes, train, OPEN_SUM)
    assert tuned.trial is not None
    held = sum(len(node.test) for node in tuned.trial.nodes)
    assert 0 < held < 0.2 * len(rows)
    assert held + sum(len(node.train) for node in tuned.trial.nodes) == len(rows)
    trained.clear()
    found, record = method.tune_lists(tuned, nodes, train, OPEN_SUM)
    assert (HierarchicalFactors.__name__ in trained) == again
    assert found.trial is None
    assert record is not None
    assert found.settings.ranking.ease_weight == record.weights["ease"]
    # Without such a training one is made, whatever the protocol.
    trained.clear()
    method.tune_lists(Tuned(asked), nodes, train, OPEN_SUM)
    assert HierarchicalFactors.__name__ in trained
