"""The stacked gradients against torch.autograd, node by node, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hierfed.methods.averaging.gradients import FunctionalGradient, PerceptronGradient, gradient_of
from hierfed.methods.averaging.network import ModuleNetwork, Network

INPUTS = 4
few = settings(max_examples=40, deadline=None)


@dataclass(frozen=True)
class Batch:
    """One batch of every node, the last rows of some padded with scale 0."""

    inputs: Tensor
    target: Tensor
    scale: Tensor
    keep: Tensor | None


def make_batch(nodes: int, rows: int, seed: int, units: int = 0, dropout: float = 0.0) -> Batch:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    filled = torch.randint(1, rows + 1, (nodes,), generator=random)
    scale = torch.where(torch.arange(rows)[None, :] < filled[:, None], 2.0 / filled[:, None].double(), 0.0)
    keep = None
    if dropout:
        keep = (torch.rand(nodes, rows, units, generator=random) >= dropout).double() / (1 - dropout)
    return Batch(normal(nodes, rows, INPUTS), 3 + normal(nodes, rows), scale, keep)


def plain_forward(network: Network, parameters: Tensor, inputs: Tensor, keep: Tensor | None) -> Tensor:
    """The perceptron in torch.nn.functional, dropout factors given."""
    tensors, activation, unit = network.named(parameters), inputs, 0
    for number, width in enumerate(network.hidden):
        weight, bias = tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"]
        activation = nn.functional.linear(activation, weight, bias).relu()
        if keep is not None:
            activation = activation * keep[:, unit : unit + width]
        unit += width
    last = len(network.hidden)
    return nn.functional.linear(activation, tensors[f"layers.{last}.weight"], tensors[f"layers.{last}.bias"])[:, 0]


def by_autograd(
    forward: Callable[[Tensor, Tensor, Tensor | None], Tensor], parameters: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Gradient of sum(scale / 2 * error ** 2) of every node by itself, and the errors."""
    gradients, errors = [], []
    for node, row in enumerate(parameters):
        leaf = row.clone().requires_grad_(True)
        keep = None if batch.keep is None else batch.keep[node]
        error = forward(leaf, batch.inputs[node], keep) - batch.target[node]
        (batch.scale[node] / 2 * error.square()).sum().backward()
        gradients.append(leaf.grad)
        errors.append(error.detach())
    return torch.stack(gradients), torch.stack(errors)


def stacked_parameters(network: Network | ModuleNetwork, nodes: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed + 1)
    shared = network.initial(seed).double()
    noise = 0.3 * torch.randn(nodes, len(shared), generator=random, dtype=torch.float64)
    return shared + noise * (shared != 0)


@few
@given(
    hidden=st.lists(st.integers(1, 20), max_size=3).map(tuple),
    nodes=st.integers(1, 4),
    rows=st.integers(1, 6),
    dropout=st.sampled_from([0.0, 0.3, 0.5]),
    seed=st.integers(0, 10**6),
)
def test_backpropagation_by_hand_equals_autograd_for_every_node(hidden, nodes, rows, dropout, seed):
    network = Network(INPUTS, hidden, dropout)
    parameters = stacked_parameters(network, nodes, seed)
    gradient, errors = torch.zeros_like(parameters), torch.empty(nodes, rows, dtype=torch.float64)
    rule = PerceptronGradient(network, parameters, gradient, rows)
    # Twice, since the work space of the first batch must not leak into the second.
    for number in (0, 1):
        batch = make_batch(nodes, rows, seed + number, network.mask_units, dropout if hidden else 0.0)
        rule(batch.inputs, batch.target, batch.scale, batch.keep, errors)
        expected, expected_errors = by_autograd(
            lambda *arguments: plain_forward(network, *arguments), parameters, batch
        )
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(errors, expected_errors, rtol=1e-9, atol=1e-12)


def test_backpropagation_follows_parameters_that_change_in_place():
    network = Network(INPUTS, (6, 3))
    parameters = stacked_parameters(network, 2, 0)
    gradient, errors = torch.zeros_like(parameters), torch.empty(2, 5, dtype=torch.float64)
    rule = PerceptronGradient(network, parameters, gradient, 5)
    batch = make_batch(2, 5, 0)
    rule(batch.inputs, batch.target, batch.scale, None, errors)
    parameters.mul_(1.5)
    rule(batch.inputs, batch.target, batch.scale, None, errors)
    expected, _ = by_autograd(lambda *arguments: plain_forward(network, *arguments), parameters, batch)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_rows", [1, 5])
def test_the_mapped_gradient_of_a_module_equals_autograd_for_every_node(batch_rows):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(INPUTS, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 1)).double()
    network = ModuleNetwork(module)
    parameters = stacked_parameters(network, 3, 0)
    gradient, errors = torch.zeros_like(parameters), torch.empty(3, batch_rows, dtype=torch.float64)
    batch = make_batch(3, batch_rows, 4)
    FunctionalGradient(network, parameters, gradient)(batch.inputs, batch.target, batch.scale, None, errors)

    def forward(row: Tensor, inputs: Tensor, _keep: Tensor | None) -> Tensor:
        parts, start = {}, 0
        for name, parameter in module.named_parameters():
            parts[name] = row[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        hidden = nn.functional.linear(inputs, parts["0.weight"], parts["0.bias"])
        hidden = nn.functional.layer_norm(hidden, (6,), parts["1.weight"], parts["1.bias"]).tanh()
        return nn.functional.linear(hidden, parts["3.weight"], parts["3.bias"])[:, 0]

    expected, expected_errors = by_autograd(forward, parameters, batch)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(errors, expected_errors, rtol=1e-9, atol=1e-12)


@few
@given(hidden=st.lists(st.integers(1, 12), max_size=2).map(tuple), nodes=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_the_mapped_gradient_of_the_perceptron_equals_autograd_too(hidden, nodes, seed):
    network = Network(INPUTS, hidden)
    parameters, batch = stacked_parameters(network, nodes, seed), make_batch(nodes, 4, seed)
    gradient, errors = torch.zeros_like(parameters), torch.empty(nodes, 4, dtype=torch.float64)
    FunctionalGradient(network, parameters, gradient)(batch.inputs, batch.target, batch.scale, None, errors)
    expected, expected_errors = by_autograd(lambda *arguments: plain_forward(network, *arguments), parameters, batch)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(errors, expected_errors, rtol=1e-9, atol=1e-12)


def test_the_perceptron_takes_the_fast_gradient_and_any_other_module_the_mapped_one():
    network, module = Network(INPUTS, (3,)), ModuleNetwork(nn.Sequential(nn.Linear(INPUTS, 1)))
    for predictor, kind in ((network, PerceptronGradient), (module, FunctionalGradient)):
        parameters = predictor.initial(0)[None]
        assert isinstance(gradient_of(predictor, parameters, torch.zeros_like(parameters), 2), kind)
