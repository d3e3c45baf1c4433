"""Networks in one flat vector against torch.nn's own layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from hierfed.methods.averaging.network import ModuleNetwork, Network, first_layer_change, last_hidden, rate

few = settings(max_examples=40, deadline=None)
widths = st.lists(st.integers(1, 40), max_size=3).map(tuple)
PARTS = pytest.mark.parametrize("hidden", [(), (3,), (17, 16), (20, 9, 4)], ids=str)


def as_sequential(network: Network, parameters: Tensor) -> nn.Sequential:
    """The same network of torch.nn layers, from the exported tensors."""
    tensors = network.named(parameters)
    parts: list[nn.Module] = []
    for number in range(len(tensors) // 2):
        weight, bias = tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"]
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def small_module() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 1))


@PARTS
def test_predictions_equal_torchs_own_layers(hidden, features):
    network = Network(5, hidden)
    parameters = network.initial(1)
    expected = as_sequential(network, parameters)(features).squeeze(1)
    torch.testing.assert_close(network.predict(parameters, features), expected, rtol=1e-5, atol=1e-6)


@PARTS
def test_last_hidden_is_what_the_output_layer_sees(hidden, features):
    network = Network(5, hidden, dropout=0.5)
    parameters = network.initial(1)
    expected = as_sequential(network, parameters)[:-1](features)
    torch.testing.assert_close(network.last_hidden(parameters, features), expected, rtol=1e-5, atol=1e-6)


def test_dropped_units_are_silent_and_kept_ones_scaled_up(features):
    network = Network(5, (6, 4), dropout=0.2)
    assert network.mask_units == 10
    parameters = network.initial(1)
    keep = torch.rand(len(features), 10, generator=torch.Generator().manual_seed(0)) > 0.2
    first, _, second, _, output = as_sequential(network, parameters)
    activation = first(features).relu() * keep[:, :6] * 1.25
    activation = second(activation).relu() * keep[:, 6:] * 1.25
    expected = output(activation).squeeze(1)
    torch.testing.assert_close(network.predict_in_training(parameters, features, keep), expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_dropout_needs_no_masks():
    assert Network(5, (6, 4)).mask_units == 0


@few
@given(st.integers(1, 40), widths)
def test_blocks_are_aligned_disjoint_and_in_order(inputs, hidden):
    network = Network(inputs, hidden)
    blocks = [block for layer in network.layers for block in (layer.weight, layer.bias)]
    shapes = [tensor.numel() for tensor in network.named(torch.zeros(network.parameter_count)).values()]
    assert [block.stop - block.start for block in blocks] == shapes
    assert all(block.start % 16 == 0 for block in blocks)
    assert all(before.stop <= after.start for before, after in itertools.pairwise(blocks))
    assert network.parameter_count % 16 == 0
    assert blocks[-1].stop <= network.parameter_count < blocks[-1].stop + 16


@few
@given(st.integers(1, 40), widths, st.integers(0, 1000))
def test_initial_parameters_are_bounded_as_torch_bounds_them_and_gaps_are_zero(inputs, hidden, seed):
    network = Network(inputs, hidden)
    parameters = network.initial(seed)
    gaps = torch.ones(network.parameter_count, dtype=torch.bool)
    for layer in network.layers:
        for block in (layer.weight, layer.bias):
            assert parameters[block].abs().max() <= layer.inputs**-0.5
            assert parameters[block].abs().min() > 0
            gaps[block] = False
    assert not parameters[gaps].any()


def test_initial_weights_are_uniform():
    network = Network(100, (60,))
    weights = network.named(network.initial(3))["layers.0.weight"].flatten().numpy()
    assert stats.kstest(weights, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_the_same_seed_gives_the_same_parameters_and_another_others():
    network = Network(5, (6, 4))
    state = torch.random.get_rng_state()
    assert torch.equal(network.initial(7), network.initial(7))
    assert not torch.equal(network.initial(7), network.initial(8))
    assert torch.equal(state, torch.random.get_rng_state())


@PARTS
def test_first_layer_head_and_output_bias_are_where_they_are_said_to_be(hidden):
    network = Network(5, hidden)
    parameters = torch.arange(network.parameter_count, dtype=torch.float32)
    tensors = network.named(parameters)
    first = tensors["layers.0.weight"]
    assert sorted(first.flatten().tolist()) == parameters[network.first_layer].tolist()
    head = set(parameters[network.head].tolist())
    last = len(hidden)
    assert set(tensors[f"layers.{last}.weight"].flatten().tolist()) <= head
    assert tensors[f"layers.{last}.bias"].item() == parameters[network.head.stop - 1]
    for name, tensor in tensors.items():
        assert name.startswith(f"layers.{last}.") or not head & set(tensor.flatten().tolist())


@PARTS
def test_the_change_of_the_first_layer_is_the_norm_of_its_weights_difference(hidden):
    network = Network(5, hidden)
    before, after = network.initial(0), network.initial(1)
    difference = network.named(after)["layers.0.weight"] - network.named(before)["layers.0.weight"]
    expected = np.linalg.norm(difference.numpy().astype(np.float64))
    assert first_layer_change(network, before, after) == pytest.approx(expected, rel=1e-6)


@PARTS
@pytest.mark.parametrize("rows", [0, 1, 60])
def test_rates_equal_predictions_row_by_row(hidden, rows, features):
    network = Network(5, hidden)
    parameters = network.initial(0)
    item = torch.randint(len(features), (rows,), generator=torch.Generator().manual_seed(rows))
    module = as_sequential(network, parameters)
    rated = rate(network, parameters, features, item)
    assert rated.dtype == torch.float64
    assert not rated.requires_grad
    expected = [module(features[number]).item() for number in item]
    np.testing.assert_allclose(rated.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_hidden_units_of_items_are_those_of_all_items_picked(rows, features):
    network = Network(5, (8, 3))
    parameters = network.initial(0)
    item = torch.randint(len(features), (rows,), generator=torch.Generator().manual_seed(rows))
    found = last_hidden(network, parameters, features, item)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    expected = network.last_hidden(parameters, features)[item].double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_module_predicts_as_it_does_by_itself(features):
    module = small_module()
    network = ModuleNetwork(module)
    parameters = network.initial(0)
    torch.testing.assert_close(network.predict(parameters, features), module(features).squeeze(1))
    changed = parameters * 1.5 + 0.1
    before = network.predict(changed, features)
    nn.utils.vector_to_parameters(changed, module.parameters())
    torch.testing.assert_close(before, module(features).squeeze(1))


def test_a_module_may_give_a_column_or_a_vector(features):
    class Vector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = small_module()

        def forward(self, inputs: Tensor) -> Tensor:
            output: Tensor = self.body(inputs)
            return output[:, 0]

    vector, column = ModuleNetwork(Vector()), ModuleNetwork(small_module())
    prediction = vector.predict(vector.initial(0), features)
    assert prediction.shape == (len(features),)
    assert torch.equal(prediction, column.predict(column.initial(0), features))


def test_a_modules_initial_parameters_are_a_copy_of_its_own():
    module = small_module()
    network = ModuleNetwork(module)
    parameters = network.initial(0)
    state = module.state_dict()
    named = network.named(parameters)
    assert list(named) == list(state)
    assert all(torch.equal(named[name], state[name]) for name in state)
    parameters.zero_()
    assert module[0].weight.any()


def test_a_modules_head_and_first_layer_are_its_last_and_first_linear():
    network = ModuleNetwork(small_module())
    parameters = network.initial(0)
    named = network.named(parameters)
    assert torch.equal(parameters[network.first_layer], named["0.weight"].flatten())
    assert torch.equal(parameters[network.head], torch.cat([named["4.weight"].flatten(), named["4.bias"]]))


def test_a_modules_last_hidden_is_seen_without_dropout(features):
    body = small_module()
    module = nn.Sequential(*body[:4], nn.Dropout(0.5), body[4])
    network = ModuleNetwork(module)
    network.predict_in_training(network.initial(0), features, None)
    torch.testing.assert_close(network.last_hidden(network.initial(0), features), body[:4](features))
    assert not module[5]._forward_pre_hooks


def test_modules_with_buffers_are_refused():
    with pytest.raises(ValueError, match="buffers, such as batch normalisation"):
        ModuleNetwork(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1, bias=False)),
        nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4)),
        nn.Sequential(nn.Conv1d(5, 1, 1)),
    ],
    ids=["no bias", "a norm after it", "no linear at all"],
)
def test_modules_that_do_not_end_in_a_linear_with_bias_are_refused(module):
    with pytest.raises(ValueError, match=r"must end in a torch\.nn\.Linear with a bias"):
        ModuleNetwork(module)


def test_a_module_with_dropout_predicts_without_it():
    module = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    network, features = ModuleNetwork(module), torch.randn(20, 5)
    item = torch.arange(20)
    first = rate(network, network.initial(0), features, item)
    assert torch.equal(first, rate(network, network.initial(0), features, item))
    with torch.no_grad():
        expected = module.eval()(features).squeeze(1).double()
    torch.testing.assert_close(first, expected)


def test_one_linear_layer_is_a_module_that_ends_in_one():
    assert ModuleNetwork(nn.Linear(5, 1)).head == slice(0, 6)
