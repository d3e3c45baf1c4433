"""Nodes' own models beside the shared one, against rounds by hand and the limits of their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.errors import SettingsError
from hierfed.federated.method import Trained
from hierfed.federated.private import StoredState
from hierfed.federated.settings import TrainingSettings
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.own_models import OWN_MODELS, OwnModelAveraging, with_own_models
from hierfed.settings import load_settings
from tests.reference.full_batches import (
    EPOCHS,
    LENGTHS,
    NETWORK,
    RATE,
    assert_close,
    full_batches,
    gradient,
    mean_over_rows,
)

# Ratings minus a linear function of five features: a quadratic loss with one optimum.
LINEAR = Network(5, ())
ROUNDS = 2


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


@pytest.fixture
def inputs(features) -> Tensor:
    return features.double()


@pytest.fixture
def plain(inputs) -> FederatedAveraging:
    return full_batches(inputs)


def own(plain: FederatedAveraging, name: str, **changes: Any) -> OwnModelAveraging:
    return with_own_models(plain, TrainingSettings(own_model=name, **changes))


def trained(method: OwnModelAveraging, nodes: Sequence[Node], rounds: int = ROUNDS) -> tuple[Tensor, list[Tensor]]:
    """The shared parameters, and those of each node's personal model."""
    found = run_rounds(method, nodes, rounds)
    models = method.personalise(found.shared, nodes, found.private)
    return found.shared.arrays["parameters"], [model.parameters for model in models]


def descend(start: Tensor, slope, rate: float = RATE, steps: int = EPOCHS) -> Tensor:
    for _ in range(steps):
        start = start - rate * slope(start)
    return start


def test_ditto_by_hand(plain, nodes, inputs):
    x = plain.start().arrays["parameters"]
    v = [x for _ in nodes]
    for _ in range(ROUNDS):
        v = [
            descend(v[k], lambda y, node=node, x=x: gradient(y, inputs, [node]) + 0.7 * (y - x), 0.02)
            for k, node in enumerate(nodes)
        ]
        x = mean_over_rows([descend(x, lambda y, node=node: gradient(y, inputs, [node])) for node in nodes])
    shared, models = trained(own(plain, "ditto", own_strength=0.7, own_rate=0.02), nodes)
    assert_close(shared, x)
    assert_close(torch.stack(models), torch.stack(v))


def test_apfl_by_hand(plain, nodes, inputs):
    alpha = 0.3
    x = plain.start().arrays["parameters"]
    v = [x for _ in nodes]
    for _ in range(ROUNDS):
        local = []
        for k, node in enumerate(nodes):
            y = x
            for _ in range(EPOCHS):
                mixed = alpha * v[k] + (1 - alpha) * y
                v[k] = v[k] - RATE * alpha * gradient(mixed, inputs, [node])
                y = y - RATE * gradient(y, inputs, [node])
            local.append(y)
        x = mean_over_rows(local)
    shared, models = trained(own(plain, "apfl", own_strength=alpha), nodes)
    assert_close(shared, x)
    for each, model in zip(v, models, strict=True):
        assert_close(model, alpha * each + (1 - alpha) * x)


def test_apfl_of_alpha_0_is_the_shared_model_and_of_alpha_1_local_alone(plain, nodes):
    average = run_rounds(plain, nodes, ROUNDS).shared.arrays["parameters"]
    shared, models = trained(own(plain, "apfl", own_strength=0), nodes)
    assert_close(shared, average)
    assert all(torch.equal(model, shared) for model in models)
    shared, models = trained(own(plain, "apfl", own_strength=1), nodes)
    assert_close(shared, average)
    assert_close(torch.stack(models), plain.train_alone(nodes, ROUNDS))


def test_pfedme_by_hand(plain, nodes, inputs):
    strength, rate = 2.0, 0.1
    x = plain.start().arrays["parameters"]
    v = [x for _ in nodes]
    for _ in range(ROUNDS):
        local = []
        for k, node in enumerate(nodes):
            y = x
            for _ in range(EPOCHS):
                for _ in range(2):
                    v[k] = (v[k] - rate * gradient(v[k], inputs, [node]) + rate * strength * y) / (1 + rate * strength)
                y = y - RATE * strength * (y - v[k])
            local.append(y)
        x = mean_over_rows(local)
    shared, models = trained(own(plain, "pfedme", own_strength=strength, own_rate=rate, own_steps=2), nodes)
    assert_close(shared, x)
    assert_close(torch.stack(models), torch.stack(v))


def test_per_fedavg_by_hand(plain, nodes, inputs):
    rate = 0.1
    x = plain.start().arrays["parameters"]

    def after(y: Tensor, node: Node) -> Tensor:
        return y - rate * gradient(y, inputs, [node])

    for _ in range(ROUNDS):
        x = mean_over_rows(
            [descend(x, lambda y, node=node: gradient(after(y, node), inputs, [node])) for node in nodes]
        )
    shared, models = trained(own(plain, "per_fedavg", own_rate=rate), nodes)
    assert_close(shared, x)
    assert_close(torch.stack(models), torch.stack([after(x, node) for node in nodes]))


def test_per_fedavg_of_inner_rate_0_is_federated_averaging_to_the_bit(plain, nodes):
    shared, models = trained(own(plain, "per_fedavg", own_rate=0), nodes)
    assert torch.equal(shared, run_rounds(plain, nodes, ROUNDS).shared.arrays["parameters"])
    assert all(torch.equal(model, shared) for model in models)


def test_fedala_by_hand(plain, nodes, inputs):
    rate, head = 0.4, NETWORK.head
    x = plain.start().arrays["parameters"]
    v, weights = [x for _ in nodes], [torch.ones_like(x) for _ in nodes]
    for _ in range(3):
        for k, node in enumerate(nodes):
            difference = x - v[k]
            for _ in range(2):
                slope = gradient(v[k] + weights[k] * difference, inputs, [node]) * difference
                weights[k] = weights[k].clone()
                weights[k][head] = (weights[k] - rate * slope)[head].clamp(0, 1)
            start = x.clone()
            start[head] = (v[k] + weights[k] * difference)[head]
            v[k] = descend(start, lambda y, node=node: gradient(y, inputs, [node]))
        x = mean_over_rows(v)
    assert any((each[head] < 1).any() for each in weights)
    shared, models = trained(own(plain, "fedala", own_rate=rate, own_steps=2), nodes, 3)
    assert_close(shared, x)
    assert_close(torch.stack(models), torch.stack(v))


def test_fedala_whose_weights_stay_is_federated_averaging(plain, nodes):
    shared, _ = trained(own(plain, "fedala", own_rate=0), nodes)
    assert_close(shared, run_rounds(plain, nodes, ROUNDS).shared.arrays["parameters"])


@pytest.fixture
def quadratic(inputs) -> FederatedAveraging:
    return replace(full_batches(inputs, epochs=1, learning_rate=0.2), predictor=LINEAR)


def optimum(inputs: Tensor, nodes: Sequence[Node]) -> Tensor:
    """The least squares fit of all these nodes' rows, in the places of LINEAR."""
    item = torch.cat([torch.from_numpy(node.train.item).long() for node in nodes])
    value = torch.cat([torch.from_numpy(node.train.value).double() for node in nodes])
    design = torch.cat([inputs[item], torch.ones(len(item), 1, dtype=torch.float64)], 1)
    (*weights, bias) = torch.linalg.lstsq(design, value[:, None]).solution[:, 0]
    (layer,) = LINEAR.layers
    found = torch.zeros(LINEAR.parameter_count, dtype=torch.float64)
    found[layer.weight], found[layer.bias] = torch.stack(weights), bias
    return found


def test_no_pull_leaves_nodes_alone_and_pfedmes_shared_model_at_its_start(quadratic, nodes):
    alone = quadratic.train_alone(nodes, 5)
    for name in ("ditto", "pfedme"):
        shared, models = trained(own(quadratic, name, own_strength=0, own_rate=0.2), nodes, 5)
        assert_close(torch.stack(models), alone)
        start = quadratic.start().arrays["parameters"]
        assert torch.equal(shared, start) == (name == "pfedme")


@pytest.mark.parametrize(("name", "rate"), [("ditto", 1e-6), ("pfedme", 1.0)])
def test_a_huge_pull_brings_all_to_the_shared_optimum(name, rate, quadratic, nodes, inputs):
    best = optimum(inputs, nodes)
    shared, models = trained(own(quadratic, name, own_strength=1e6, own_rate=rate), nodes, 250)
    for found in (shared, *models):
        torch.testing.assert_close(found, best, rtol=0, atol=1e-4)


def test_dittos_fixed_point_is_the_closed_form_proximal_solution(quadratic, nodes, inputs):
    strength, best = 0.8, optimum(inputs, nodes)
    shared, models = trained(own(quadratic, "ditto", own_strength=strength, own_rate=0.2), nodes, 250)
    torch.testing.assert_close(shared, best, rtol=0, atol=1e-6)
    for node, model in zip(nodes, models, strict=True):
        # f'(v) + strength (v - x) = 0 at the minimum, and the loss is convex.
        item, value = torch.from_numpy(node.train.item).long(), torch.from_numpy(node.train.value).double()
        design = torch.cat([inputs[item], torch.ones(len(item), 1, dtype=torch.float64)], 1)
        (layer,) = LINEAR.layers
        x = torch.cat([best[layer.weight], best[layer.bias]])
        curvature = 2 / len(item) * design.T @ design + strength * torch.eye(6, dtype=torch.float64)
        v = torch.linalg.solve(curvature, 2 / len(item) * design.T @ value + strength * x)
        torch.testing.assert_close(torch.cat([model[layer.weight], model[layer.bias]]), v, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(OWN_MODELS))
def test_nodes_that_are_alike_have_alike_models_and_send_what_averaging_sends(name, plain, make_node):
    rows = make_node(0, 12).train
    alike = [replace(make_node(number, 12), train=rows) for number in range(3)]
    method = own(plain, name)
    _, models = trained(method, alike)
    for model in models:
        assert_close(model, models[0])
    begin = method.start()
    for (sent, _), (usual, _) in zip(
        method.contribute(begin, alike, [None] * 3), plain.contribute(begin, alike, [None] * 3), strict=True
    ):
        assert {key: each.shape for key, each in sent.arrays.items()} == {
            key: each.shape for key, each in usual.arrays.items()
        }


@pytest.mark.parametrize("name", list(OWN_MODELS))
def test_a_node_goes_on_from_its_disk_and_is_the_same_in_any_stack(name, plain, nodes):
    small = replace(plain, training=replace(plain.training, batch_size=8, optimizer="adam"))
    method = own(replace(small, features=small.features.float()), name)
    whole, first = run_rounds(method, nodes, 3), run_rounds(method, nodes, 1)
    read = [None if state is None else StoredState(state.kept()) for state in first.private]
    assert run_rounds(method, nodes, 3, begin=Trained(first.shared, read)).shared.digest() == whole.shared.digest()
    together = list(method.contribute(first.shared, nodes, first.private))
    for node, state, (sent, kept) in zip(nodes, first.private, together, strict=True):
        ((alone, alone_kept),) = method.contribute(first.shared, [node], [state])
        assert torch.equal(alone.arrays["change"], sent.arrays["change"])
        assert (kept is None) == (alone_kept is None) == (name == "per_fedavg")
        if kept is not None and alone_kept is not None:
            assert torch.equal(kept.kept()["vector"], alone_kept.kept()["vector"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"own_model": "apfl", "own_strength": 1.5}, "from 0 to 1"),
        ({"own_rate": 0.2}, "own_rate has no effect"),
        ({"own_model": "apfl", "own_steps": 3}, "own_steps has no effect"),
        ({"own_model": "ditto", "kept": "head"}, "leave one of the two out"),
        ({"own_model": "ditto", "mode": "async"}, "late answers"),
        ({"own_model": "ditto", "privacy_unit": "example", "output_bias": "random"}, "never tried under differential"),
        ({"own_model": "fedfoo"}, "own_model"),
    ],
)
def test_settings_without_sense_are_refused(changes, reason):
    with pytest.raises(SettingsError, match=reason):
        load_settings("network", changes)
