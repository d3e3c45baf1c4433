"""Item biases against the same sums in one place, computed by a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.methods.item_biases.item_biases import SHRINKAGE, ItemBiases

ITEMS, THRESHOLD = 23, 3
# Of the classes of raters.
EDGES = [14 / 3 * 2 ** (step / 2) for step in range(-4, 9)]


@pytest.fixture
def nodes(make_pairs, divide_users):
    return divide_users(make_pairs(20, ITEMS, seed=4), [user % 3 for user in range(20)])


@pytest.fixture
def trained(nodes):
    return run_rounds(ItemBiases(ITEMS, THRESHOLD, (0.5, 5.0)), nodes, 1).shared


def test_biases_are_shrunk_deviations_from_the_mean(nodes, trained):
    item = np.concatenate([node.train.item for node in nodes])
    value = np.concatenate([node.train.value for node in nodes]).astype(float)
    assert trained.arrays["mean"].item() == pytest.approx(value.mean(), rel=1e-12)
    for number in range(ITEMS):
        own = value[item == number]
        if len(own) < THRESHOLD:
            assert trained.arrays["bias"][number].item() == 0
            continue
        edge = min(each for each in EDGES if each > len(own))
        step = 4.5 / 4 / (edge / math.sqrt(2))
        expected = (0.5 + step * round((own.mean() - 0.5) / step) - value.mean()) * edge / (edge + SHRINKAGE)
        assert trained.arrays["bias"][number].item() == pytest.approx(expected, abs=1e-12)


def test_how_many_have_rated_an_item_stays_at_the_server(nodes, trained):
    assert trained.server.keys() == {"raters"}
    assert trained.arrays.keys() == {"mean", "summed", "bias"}
    assert set(trained.arrays["summed"].tolist()) == {0.0, 1.0}


def test_no_sum_of_a_rare_item_is_sent(nodes, trained):
    method = ItemBiases(ITEMS, THRESHOLD, (0.5, 5.0))
    opened = method.combine(method.start(), run_sum(method, method.start(), nodes))
    rare = opened.arrays["summed"] == 0
    assert rare.any()
    for contribution, _ in method.contribute(opened, nodes, [None] * len(nodes)):
        assert not contribution.arrays["deviations"][rare].any()


def run_sum(method, shared, nodes):
    contributions = [each for each, _ in method.contribute(shared, nodes, [None] * len(nodes))]
    total = contributions[0]
    for each in contributions[1:]:
        total = total + each
    return total


def test_a_users_bias_is_what_the_own_ratings_leave_over(nodes, trained):
    method = ItemBiases(ITEMS, THRESHOLD, (-100.0, 100.0))
    (model, *_) = method.personalise(trained, nodes, [None] * len(nodes))
    expected = (trained.arrays["mean"] + trained.arrays["bias"]).numpy()
    train = nodes[0].train
    for user in np.unique(train.user):
        own = train.user == user
        residuals = train.value[own] - expected[train.item[own]]
        bias = residuals.sum() / (own.sum() + SHRINKAGE)
        found = model.predict(rows_to_predict(torch.tensor([user]), torch.tensor([0]))).item()
        assert found == pytest.approx(expected[0] + bias, abs=1e-6)
    stranger = model.predict(rows_to_predict(torch.tensor([999]), torch.tensor([0]))).item()
    assert stranger == pytest.approx(expected[0], rel=1e-12)
