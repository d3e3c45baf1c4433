"""A node's own version of the global network, for each way of making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.methods.averaging.network import Network, Predictor
from hierfed.methods.averaging.node_level import NodeLevel, NodePersonalisation, personalise_nodes
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams
from tests.reference.loop import train_loop

NETWORK = Network(5, (8, 4))
SHARED = NETWORK.initial(0)
TRAINING = LocalTraining(epochs=4, batch_size=8, learning_rate=0.02, proximal=0.0)
LENGTHS = (30, 9, 17)


class Recorder:
    """A trainer that trains, and remembers what it was asked to."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Node], LocalTraining, Streams]] = []

    def __call__(
        self,
        predictor: Predictor,
        start: Tensor,
        features: Tensor,
        nodes: Sequence[Node],
        settings: LocalTraining,
        streams: Streams,
        on_epoch_end: EpochEnd | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.calls.append((list(nodes), settings, streams))
        return train_stacked(predictor, start, features, nodes, settings, streams, on_epoch_end)


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


def personalise(
    nodes: Sequence[Node],
    features: Tensor,
    how: NodeLevel,
    training: LocalTraining = TRAINING,
    validation: float = 0.0,
    trainer=train_stacked,
) -> Tensor:
    asked = NodePersonalisation(how, training, validation)
    return personalise_nodes(NETWORK, trainer, SHARED, features, nodes, asked, seed=3)


def squares(parameters: Tensor, features: Tensor, rows: Ratings) -> float:
    error = NETWORK.predict(parameters, features).numpy()[rows.item] - rows.value
    return float(np.sum(np.square(error.astype(np.float64))))


def distances(parameters: Tensor) -> Tensor:
    return (parameters - SHARED).norm(dim=1)


def test_none_keeps_the_global_model(nodes, features):
    assert torch.equal(personalise(nodes, features, "none"), SHARED.repeat(len(nodes), 1))


def test_the_bias_is_the_nodes_mean_residual_and_nothing_else_changes(nodes, features):
    before = SHARED.clone()
    found = personalise(nodes, features, "bias")
    output_bias = NETWORK.head.stop - 1
    prediction = NETWORK.predict(SHARED, features).double().numpy()
    for row, node in enumerate(nodes):
        residual = np.mean(node.train.value - prediction[node.train.item])
        assert found[row, output_bias].item() == pytest.approx(SHARED[output_bias].item() + residual, abs=1e-6)
        after = NETWORK.predict(found[row], features).numpy()[node.train.item]
        assert np.mean(node.train.value - after) == pytest.approx(0, abs=1e-6)
    assert torch.equal(found[:, :output_bias], SHARED[:output_bias].repeat(len(nodes), 1))
    assert torch.equal(SHARED, before)


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_head_only_leaves_every_other_parameter_bit_identical(validation, nodes, features):
    found = personalise(nodes, features, "head", validation=validation)
    body = NETWORK.head.start
    assert torch.equal(found[:, :body], SHARED[:body].repeat(len(nodes), 1))
    assert (found[:, NETWORK.head] != SHARED[NETWORK.head]).any(1).all()


def test_head_first_is_the_head_alone_and_then_all(nodes, features):
    found = personalise(nodes, features, "head_first")
    head = personalise(nodes, features, "head")
    again = Streams(3, 0, "personalisation, turn 2")
    assert torch.equal(found, train_stacked(NETWORK, head, features, nodes, TRAINING, again)[0])


@pytest.mark.parametrize("how", ["fine_tuning", "head_first", "bias"])
def test_nodes_may_start_from_parameters_of_their_own(how, nodes, features):
    asked = NodePersonalisation(how, TRAINING)
    starts = torch.stack([NETWORK.initial(seed) for seed in range(len(nodes))])
    found = personalise_nodes(NETWORK, train_stacked, starts, features, nodes, asked, 3)
    for start, node, row in zip(starts, nodes, found, strict=True):
        assert torch.equal(personalise_nodes(NETWORK, train_stacked, start, features, [node], asked, 3)[0], row)


def test_fine_tuning_moves_all_layers_and_fits_every_nodes_rows_better(nodes, features):
    found = personalise(nodes, features, "fine_tuning")
    for row, node in enumerate(nodes):
        assert squares(found[row], features, node.train) < squares(SHARED, features, node.train)
        for layer in NETWORK.layers:
            assert not torch.equal(found[row, layer.weight], SHARED[layer.weight])


def test_fine_tuning_is_training_from_the_global_model(nodes, features):
    found = personalise(nodes, features, "fine_tuning", trainer=train_loop)
    streams = Streams(3, 0, "personalisation")
    for row, node in enumerate(nodes):
        expected, _ = train_loop(NETWORK, SHARED[None], features, [node], TRAINING, streams)
        assert torch.equal(found[row], expected[0])


@pytest.mark.parametrize("how", ["fine_tuning", "head"])
def test_only_ditto_is_pulled_back_to_the_global_model(how, nodes, features):
    pulled = personalise(nodes, features, how, replace(TRAINING, proximal=100.0))
    assert torch.equal(pulled, personalise(nodes, features, how))


def test_ditto_stays_closer_to_the_global_model_the_stronger_its_pull(nodes, features):
    free = distances(personalise(nodes, features, "fine_tuning"))
    weak = distances(personalise(nodes, features, "ditto", replace(TRAINING, proximal=1.0)))
    huge = distances(personalise(nodes, features, "ditto", replace(TRAINING, proximal=1e4)))
    assert (weak < free).all()
    # Adam's steps have about the length of the learning rate, however strong the pull: so near, not at, the model.
    assert (huge[[0, 2]] < 0.4 * free[[0, 2]]).all()
    assert torch.equal(
        personalise(nodes, features, "ditto", replace(TRAINING, proximal=0.0)),
        personalise(nodes, features, "fine_tuning"),
    )


@pytest.mark.parametrize("how", ["fine_tuning", "head", "ditto"])
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(4, 30), min_size=1, max_size=4),
    validation=st.sampled_from([0.2, 0.5]),
    rate=st.sampled_from([0.003, 0.05, 0.5]),
)
def test_early_stopping_keeps_the_best_epoch_on_rows_it_did_not_train_on(
    how, lengths, validation, rate, make_node, features
):
    nodes = [make_node(number, rows) for number, rows in enumerate(lengths)]
    recorder, training = Recorder(), replace(TRAINING, learning_rate=rate, proximal=0.1)
    found = personalise(nodes, features, how, training, validation, recorder)
    ((fitted, asked, streams),) = recorder.calls
    for row, (node, fitting) in enumerate(zip(nodes, fitted, strict=True)):
        held = checked_rows(node, fitting)
        assert len(held) == round(validation * len(node.train))
        # Brute force: the global model, and training anew for one epoch, two epochs and so on.
        candidates = [SHARED]
        for epochs in range(1, asked.epochs + 1):
            shorter = replace(asked, epochs=epochs)
            candidates.append(train_stacked(NETWORK, SHARED[None], features, [fitting], shorter, streams)[0][0])
        errors = [squares(candidate, features, held) for candidate in candidates]
        assert squares(found[row], features, held) <= errors[0]
        assert torch.equal(found[row], candidates[int(np.argmin(errors))])


def checked_rows(node: Node, fitting: Node) -> Ratings:
    """The rows of the node that are not among those it was fitted on, counting repeated ones."""
    left = [tuple(row) for row in zip(fitting.train.user, fitting.train.item, fitting.train.value, strict=True)]
    held = []
    for place, row in enumerate(zip(node.train.user, node.train.item, node.train.value, strict=True)):
        if tuple(row) in left:
            left.remove(tuple(row))
        else:
            held.append(place)
    assert not left
    return node.train.take(np.array(held))


def test_early_stopping_keeps_the_global_model_where_every_epoch_is_worse(make_node, features):
    nodes = [make_node(number, 20) for number in range(3)]
    found = personalise(nodes, features, "fine_tuning", replace(TRAINING, learning_rate=50.0), validation=0.3)
    assert torch.equal(found, SHARED.repeat(3, 1))


def test_a_node_with_too_few_rows_to_check_on_keeps_the_global_model(make_node, features):
    nodes = [make_node(0, 1), make_node(1, 30)]
    found = personalise(nodes, features, "fine_tuning", validation=0.2)
    assert torch.equal(found[0], SHARED)
    assert not torch.equal(found[1], SHARED)


@pytest.mark.parametrize("how", ["fine_tuning", "head", "ditto", "bias"])
@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_nodes_own_model_does_not_depend_on_the_other_nodes(how, validation, nodes, features):
    together = personalise(nodes, features, how, validation=validation)
    for row, node in enumerate(nodes):
        assert torch.equal(personalise([node], features, how, validation=validation)[0], together[row])
