"""DP-SGD: the stack against the loop, batches and noise measured, and nothing that hangs on a node's company."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from hierfed.data.federation import Node
from hierfed.methods.averaging.network import ModuleNetwork, Network, Predictor, occupied
from hierfed.methods.averaging.private_training import (
    ExampleProtection,
    StackedNoise,
    poisson_batches,
    poisson_sample,
    sampling_rate,
    train_privately,
)
from hierfed.methods.averaging.threads import ThreadedTrainer
from hierfed.methods.averaging.training import LocalTraining, Streams
from hierfed.private_randomness import PrivateStreams
from tests.reference.private_loop import train_privately_in_a_loop

STREAMS = Streams(11, 3, "training")
SETTINGS = LocalTraining(epochs=2, batch_size=8, learning_rate=0.01)
LENGTHS = (30, 5, 47, 1, 30)
NETWORK = Network(5, (12, 6))
KEYS = PrivateStreams(bytes(range(32)))
EVERY_TRAINER = pytest.mark.parametrize("train", [train_privately, train_privately_in_a_loop])
MakeNode = Callable[..., Node]


def protect(nodes: Sequence[Node], clip_norm: float = 1.0, noise: float = 0.7) -> ExampleProtection:
    """Each node with a noise of its own, so that a mix-up shows."""
    return ExampleProtection(clip_norm, {node.number: noise * (1 + node.number / 10) for node in nodes}, KEYS)


@pytest.fixture(scope="module")
def nodes(make_node: MakeNode) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


def own_module() -> Predictor:
    torch.manual_seed(3)
    return ModuleNetwork(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)))


@pytest.mark.parametrize(
    ("predictor", "changes"),
    [
        (NETWORK, {}),
        (Network(5, ()), {}),
        (NETWORK, {"proximal": 0.7}),
        (NETWORK, {"only": NETWORK.head}),
        (own_module(), {"proximal": 0.3}),
    ],
    ids=["plain", "linear", "proximal", "head only", "own module"],
)
def test_the_stack_trains_as_the_loop_with_each_rows_own_gradient_does(predictor, changes, nodes, features):
    features = features.double()
    start = predictor.initial(0).double().repeat(len(nodes), 1)
    training, untouched = replace(SETTINGS, **changes), start.clone()
    arguments = (protect(nodes), predictor, start, features, nodes, training, STREAMS)
    stacked, losses = train_privately(*arguments)
    loop, loop_losses = train_privately_in_a_loop(*arguments)
    # The one epoch of a node whose Poisson batches are all empty has no loss.
    torch.testing.assert_close(losses, loop_losses, rtol=1e-9, atol=0, equal_nan=True)
    torch.testing.assert_close(stacked, loop, rtol=1e-9, atol=1e-9)
    assert losses.shape == (len(nodes), 2)
    assert torch.equal(start, untouched)
    moved = (stacked != start).any(1)
    assert moved.all(), "noise moves a node even where its batches are empty"


@EVERY_TRAINER
def test_without_noise_and_with_whole_batches_it_is_descent_on_clipped_gradients_by_hand(train, make_node):
    node = make_node(0, 6)
    network, features = Network(1, ()), torch.linspace(-1, 1, 23, dtype=torch.float64)[:, None]
    start = torch.zeros(1, network.parameter_count, dtype=torch.float64)
    training = LocalTraining(epochs=3, batch_size=6, learning_rate=0.1)
    trained, _ = train(protect([node], 2.0, 0.0), network, start, features, [node], training, STREAMS)

    inputs, target = features[node.train.item, 0].numpy(), node.train.value.astype(np.float64)
    position, first, second = np.zeros(2), np.zeros(2), np.zeros(2)
    for step in range(1, 4):
        error = position[0] * inputs + position[1] - target
        rows = 2 * error[:, None] * np.column_stack([inputs, np.ones(6)])
        lengths = np.linalg.norm(rows, axis=1)
        gradient = (rows * np.minimum(1, 2.0 / lengths)[:, None]).sum(0) / 6
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        position = position - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    weight, bias = (tensor.item() for tensor in network.named(trained[0]).values())
    np.testing.assert_allclose([weight, bias], position, rtol=1e-9)


@EVERY_TRAINER
def test_noise_leaves_the_gaps_of_the_parameter_vector_alone(train, nodes, features):
    start = NETWORK.initial(0).repeat(len(nodes), 1)
    trained, _ = train(protect(nodes), NETWORK, start, features, nodes, SETTINGS, STREAMS)
    places = occupied(NETWORK)
    assert 0 < places.sum() < len(places)
    assert not trained[:, ~places].any()
    assert (trained != start)[:, places].all()


def trained_alone(nodes: Sequence[Node], features: Tensor, training: LocalTraining) -> Tensor:
    start = NETWORK.initial(0)[None]
    parts = [train_privately(protect([n]), NETWORK, start, features, [n], training, STREAMS)[0] for n in nodes]
    return torch.cat(parts)


def test_a_node_is_bit_for_bit_the_same_alone_in_company_and_on_threads(nodes, features):
    expected, protection = trained_alone(nodes, features, SETTINGS), protect(nodes)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        mixed = [nodes[k] for k in order]
        start = NETWORK.initial(0).repeat(len(nodes), 1)
        trainer = ThreadedTrainer(partial(train_privately, protection), threads=len(order) // 2)
        assert torch.equal(trainer(NETWORK, start, features, mixed, SETTINGS, STREAMS)[0], expected[order])


def test_another_round_has_other_batches_and_other_noise(nodes, features):
    start = NETWORK.initial(0).repeat(len(nodes), 1)
    protection = protect(nodes)
    rounds = [
        train_privately(protection, NETWORK, start, features, nodes, SETTINGS, replace(STREAMS, round_number=number))[0]
        for number in (3, 4)
    ]
    assert not torch.equal(*rounds)
    batches = [poisson_batches(nodes, SETTINGS, protection, number) for number in (3, 4)]
    assert not torch.equal(batches[0].scale, batches[1].scale)


def test_a_public_seed_foresees_nothing(nodes, features):
    start = NETWORK.initial(0).repeat(len(nodes), 1)
    found = [
        train_privately(protect(nodes), NETWORK, start, features, nodes, SETTINGS, replace(STREAMS, seed=seed))[0]
        for seed in (1, 2)
    ]
    assert torch.equal(*found)
    other = replace(protect(nodes), streams=PrivateStreams(bytes(32)))
    assert not torch.equal(train_privately(other, NETWORK, start, features, nodes, SETTINGS, STREAMS)[0], found[0])


@EVERY_TRAINER
def test_the_ends_of_epochs_are_told(train, nodes, features):
    start, told = NETWORK.initial(0).repeat(len(nodes), 1), {}

    def on_epoch_end(row: int, epoch: int, parameters: Tensor) -> None:
        told[row, epoch] = parameters.clone()

    trained, _ = train(protect(nodes), NETWORK, start, features, nodes, SETTINGS, STREAMS, on_epoch_end)
    assert told.keys() == {(row, epoch) for row in range(len(nodes)) for epoch in range(2)}
    assert torch.equal(torch.stack([told[row, 1] for row in range(len(nodes))]), trained)


# Batches.


@pytest.mark.parametrize(("rows", "rate"), [(200, 0.04), (50, 0.5), (7, 0.9), (3, 0.01)])
def test_each_row_is_in_each_batch_with_its_chance_and_independently(rows, rate):
    steps = 40_000 // rows
    step, row = poisson_sample(KEYS.stream(1, 0, "batches"), rows, rate, steps)
    chosen = np.zeros((steps, rows))
    np.add.at(chosen, (step, row), 1)
    assert chosen.max() == 1
    total = steps * rows
    assert stats.binomtest(int(chosen.sum()), total, rate).pvalue > 1e-3
    for parts in (chosen.sum(0), chosen.sum(1)):
        expected = total / len(parts) * rate
        dispersion = ((parts - expected) ** 2).sum() / (expected * (1 - rate))
        assert 1e-3 < stats.chi2.cdf(dispersion, len(parts)) < 1 - 1e-3
    after = chosen.ravel()
    both = float((after[1:] * after[:-1]).sum())
    assert abs(both / (total - 1) - rate**2) < 5 * rate * math.sqrt((1 - rate**2) / total)


@given(rows=st.integers(1, 60), rate=st.floats(1e-4, 1), steps=st.integers(1, 30), key=st.binary(min_size=32))
@settings(max_examples=80, deadline=None)
def test_samples_are_ordered_and_hold_no_row_twice(rows, rate, steps, key):
    step, row = poisson_sample(PrivateStreams(key).stream(1, 0, "batches"), rows, rate, steps)
    assert step.shape == row.shape
    place = step * rows + row
    assert (np.diff(place) > 0).all()
    assert ((row >= 0) & (row < rows) & (step >= 0) & (step < steps)).all()
    if rate == 1:
        assert len(place) == rows * steps


def test_batches_hold_the_rows_of_their_node(nodes):
    batches = poisson_batches(nodes, SETTINGS, protect(nodes), 1)
    assert batches.steps_per_epoch.tolist() == [4, 1, 6, 1, 4]
    assert batches.item.shape[2] % 16 == 0
    for number, node in enumerate(nodes):
        filled = batches.scale[:, number] > 0
        assert set(batches.scale[:, number].unique().tolist()) <= {0.0, 2.0}
        assert not filled[batches.steps_per_epoch[number] * SETTINGS.epochs :].any()
        held = set(zip(node.train.item.tolist(), node.train.value.tolist(), strict=True))
        drawn = zip(batches.item[:, number][filled].tolist(), batches.target[:, number][filled].tolist(), strict=True)
        assert set(drawn) <= held
    whole = batches.scale[:2, 1] > 0
    assert whole.sum(1).tolist() == [5, 5], "a node with fewer rows than a batch takes part with all of them"


def test_a_batch_beyond_the_usual_width_is_kept_whole(make_node, monkeypatch):
    node = make_node(0, 300)
    crowded = (np.zeros(250, np.int64), np.arange(250))
    monkeypatch.setattr("hierfed.methods.averaging.private_training.poisson_sample", lambda *_: crowded)
    batches = poisson_batches([node], SETTINGS, protect([node]), 1)
    assert int((batches.scale[0, 0] > 0).sum()) == 250


@pytest.mark.parametrize(("rows", "rate"), [(640, 0.1), (64, 1.0), (10, 1.0)])
def test_a_node_with_no_more_rows_than_a_batch_is_not_sampled(rows, rate):
    assert sampling_rate(rows, 64) == rate


# Noise.


def test_noise_has_the_deviation_of_its_node_and_is_drawn_anew_in_each_step(nodes):
    protection = protect(nodes, clip_norm=2.5, noise=1.2)
    noise = StackedNoise(nodes, protection, 1, torch.ones(4000, dtype=torch.bool))
    steps = torch.stack([noise.draw(len(nodes)) for _ in range(5)]).numpy()
    for number in range(len(nodes)):
        deviation = 2.5 * 1.2 * (1 + number / 10)
        scaled = steps[:, number].ravel() / deviation
        assert stats.kstest(scaled, "norm").pvalue > 1e-3
        assert 1e-3 < stats.chi2.cdf((scaled**2).sum(), scaled.size) < 1 - 1e-3
    correlations = np.corrcoef(steps.reshape(-1, 4000))
    assert np.abs(correlations - np.eye(len(correlations))).max() < 5 / math.sqrt(4000)


@EVERY_TRAINER
def test_the_noise_that_a_step_adds_is_measured_in_the_parameters(train, make_node):
    """With targets that the model meets, all gradients are 0 and the first Adam step is the noise's sign."""
    node = make_node(0, 40)
    network, features = Network(40, ()), torch.zeros(23, 40, dtype=torch.float64)
    start = torch.zeros(1, network.parameter_count, dtype=torch.float64)
    training = LocalTraining(epochs=1, batch_size=40, learning_rate=1.0, proximal=1.0)
    exact = replace(node, train=replace(node.train, value=np.zeros(40, np.float32)))
    trained, _ = train(protect([node], 3.0), network, start, features, [exact], training, STREAMS)
    drawn = KEYS.stream(3, 0, "noise").normal(network.parameter_count) * occupied(network).numpy()
    expected = drawn * 0.7 * 3.0 / 40
    np.testing.assert_allclose(trained[0], -expected / (np.abs(expected) + 1e-8), rtol=1e-9)
