"""Federated averaging against a computation by hand, and what must not change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import Contribution, SharedModel, ordered_sum
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import ModuleNetwork, Network, Predictor
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining, Trainer
from hierfed.methods.averaging.user_level import UserPersonalisation
from tests.reference.loop import train_loop

NETWORK = Network(5, (8, 4))
TRAINING = LocalTraining(epochs=2, batch_size=8, learning_rate=0.01)
LENGTHS = (10, 31, 4, 17)
MakeMethod = Callable[..., FederatedAveraging]


@pytest.fixture(scope="session")
def make_method(features) -> MakeMethod:
    def make(**changes: object) -> FederatedAveraging:
        method = FederatedAveraging(
            predictor=NETWORK,
            trainer=train_stacked,
            features=features,
            training=TRAINING,
            node_level=NodePersonalisation("none", TRAINING),
            user_level=UserPersonalisation("none", 5.0, 10.0),
            start_at_mean=False,
            seed=4,
        )
        return replace(method, **changes)

    return make


@pytest.fixture(scope="session")
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


def ends_at(known: Tensor, losses: Tensor) -> Trainer:
    """A trainer whose nodes end at known parameters with known losses, wherever they start."""

    def train(
        _predictor: Predictor, start: Tensor, _features: Tensor, nodes: Sequence[Node], *_: object
    ) -> tuple[Tensor, Tensor]:
        assert start.shape == (len(nodes), NETWORK.parameter_count)
        numbers = [node.number for node in nodes]
        return known[numbers], losses[numbers]

    return train


def sent_by(
    method: FederatedAveraging, shared: SharedModel, nodes: Sequence[Node], number: int = 1
) -> list[Contribution]:
    """What the nodes send to this round; they keep nothing."""
    pairs = list(method.contribute(replace(shared, round=number - 1), nodes, [None] * len(nodes)))
    assert all(kept is None for _, kept in pairs)
    return [sent for sent, _ in pairs]


def one_round(method: FederatedAveraging, shared: SharedModel, nodes: Sequence[Node], number: int = 1) -> SharedModel:
    return method.combine(shared, ordered_sum(sent_by(method, shared, nodes, number)))


def test_a_round_is_the_mean_of_the_nodes_parameters_weighted_by_their_rows(make_method, nodes):
    # So near the start that no change meets the bound on a node.
    known = 0.1 * torch.randn(4, NETWORK.parameter_count, generator=torch.Generator().manual_seed(0))
    losses = torch.tensor([[1.0, 0.5], [2.0, 1.0], [3.0, 2.5], [4.0, 3.0]], dtype=torch.float64)
    method = make_method(trainer=ends_at(known, losses))
    shared = method.start()
    total = ordered_sum(sent_by(method, shared, nodes, 1))
    expected = sum(rows * known[node].double().numpy() for node, rows in enumerate(LENGTHS)) / sum(LENGTHS)
    after = method.combine(shared, total)
    np.testing.assert_allclose(after.arrays["parameters"], expected, rtol=1e-6, atol=1e-7)
    assert after.arrays["parameters"].dtype == torch.float32
    assert (shared.round, after.round) == (0, 1)
    assert method.combine(after, total).round == 2
    by_hand = [(10 * 1 + 31 * 2 + 4 * 3 + 17 * 4) / 62, (10 * 0.5 + 31 * 1 + 4 * 2.5 + 17 * 3) / 62]
    assert method.train_loss(total) == pytest.approx(by_hand, rel=1e-12)


def test_a_contribution_is_rows_times_change_rows_and_rows_times_losses(make_method, nodes):
    known, losses = (
        torch.full((4, NETWORK.parameter_count), 0.125),
        torch.tensor([[0.5, 0.25]] * 4, dtype=torch.float64),
    )
    method = make_method(trainer=ends_at(known, losses))
    shared = method.start()
    for sent, rows in zip(sent_by(method, shared, nodes, 1), LENGTHS, strict=True):
        change = 0.125 - shared.arrays["parameters"].double()
        assert torch.equal(sent.arrays["change"], rows * change)
        assert sent.arrays["rows"].tolist() == [rows]
        assert sent.arrays["loss"].tolist() == [rows * 0.5, rows * 0.25]
        assert sent.nbytes == 8 * (NETWORK.parameter_count + 1 + 2)


def test_combining_does_not_change_the_model_it_starts_from(make_method, nodes):
    method = make_method(start_at_mean=True)
    shared = method.start()
    before = shared.digest()
    one_round(method, shared, nodes, 0)
    one_round(method, replace(shared, round=0), nodes, 1)
    assert shared.digest() == before


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(LENGTHS))), start_at_mean=st.booleans())
def test_the_order_of_the_nodes_does_not_matter(order, start_at_mean, make_method, nodes):
    method = make_method(start_at_mean=start_at_mean)
    expected = run_rounds(method, nodes, 2).shared.arrays["parameters"]
    found = run_rounds(method, [nodes[place] for place in order], 2).shared.arrays["parameters"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_nodes_contribution_does_not_depend_on_the_others(make_method, nodes):
    method = make_method(predictor=Network(5, (8, 4), dropout=0.3))
    shared = method.start()
    together = list(sent_by(method, shared, nodes, 3))
    for node, sent in zip(nodes, together, strict=True):
        (alone,) = sent_by(method, shared, [node], 3)
        assert all(torch.equal(sent.arrays[name], alone.arrays[name]) for name in ("change", "rows", "loss"))


@pytest.mark.parametrize("start_at_mean", [False, True])
@pytest.mark.parametrize("trainer", [train_stacked, train_loop])
def test_a_federation_of_one_node_is_central_training(start_at_mean, trainer, make_method, make_node):
    node = make_node(0, 40)
    method = make_method(start_at_mean=start_at_mean, trainer=trainer)
    federated = run_rounds(method, [node], 3).shared.arrays["parameters"]
    torch.testing.assert_close(federated, method.train_alone([node], 3)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("start_at_mean", [False, True])
def test_each_node_trained_alone_is_its_own_federation(start_at_mean, make_method, nodes):
    method = make_method(start_at_mean=start_at_mean)
    alone = method.train_alone(nodes, 2)
    for row, node in enumerate(nodes):
        federated = run_rounds(method, [node], 2).shared.arrays["parameters"]
        torch.testing.assert_close(alone[row], federated, rtol=0, atol=1e-6)


def test_a_federation_begins_with_the_pooled_mean_of_the_train_rows_as_output_bias(make_method, nodes):
    method = make_method(start_at_mean=True)
    shared = method.start()
    assert shared.round == -1
    after = one_round(method, shared, nodes, 0)
    pooled = np.concatenate([node.train.value for node in nodes]).astype(np.float64)
    output_bias = method.predictor.named(after.arrays["parameters"])["layers.2.bias"]
    assert output_bias.item() == np.float32(pooled.mean())
    rest = slice(0, NETWORK.head.stop - 1)
    assert torch.equal(after.arrays["parameters"][rest], shared.arrays["parameters"][rest])
    assert after.round == 0


def test_the_first_sums_say_nothing_but_each_nodes_sum_and_number_of_ratings(make_method, nodes):
    method = make_method(start_at_mean=True)
    for node, sent in zip(nodes, sent_by(method, method.start(), nodes, 0), strict=True):
        assert set(sent.arrays) == {"ratings", "rows"}
        assert sent.arrays["ratings"].tolist() == [sum(node.train.value.tolist())]
        assert sent.arrays["rows"].tolist() == [len(node.train)]


def test_a_federation_that_starts_at_random_has_no_round_for_the_mean(make_method):
    method = make_method()
    assert method.start().round == 0
    assert torch.equal(method.start().arrays["parameters"], NETWORK.initial(4))


def test_fedprox_stays_closer_to_the_global_model_than_fedavg(make_method, nodes):
    free = make_method()
    shared = free.start()

    def moved(proximal: float) -> list[float]:
        method = make_method(training=replace(TRAINING, proximal=proximal))
        sent = sent_by(method, shared, nodes, 1)
        return [float((part.arrays["change"] / part.arrays["rows"]).norm()) for part in sent]

    for weak, strong, none in zip(moved(1.0), moved(30.0), moved(0.0), strict=True):
        assert strong < weak < none


def test_each_round_draws_anew_and_the_same_round_again_the_same(make_method, nodes):
    method = make_method()
    shared = method.start()
    first, again, second = (one_round(method, shared, nodes, number).digest() for number in (1, 1, 2))
    assert first == again != second
    assert one_round(replace(method, seed=5), shared, nodes).digest() != first


def test_the_shared_models_predictions_are_the_networks_for_each_row(make_method, make_ratings, features):
    method, rows = make_method(), make_ratings(30)
    shared = method.start()
    expected = NETWORK.predict(shared.arrays["parameters"], features)[torch.from_numpy(rows.item).long()].double()
    torch.testing.assert_close(method.predict(shared, rows), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", ["none", "bias", "ridge_head"])
def test_a_personal_model_adds_its_users_head_to_its_nodes_network(how, make_method, nodes, features):
    method = make_method(
        node_level=NodePersonalisation("fine_tuning", TRAINING), user_level=UserPersonalisation(how, 5.0, 10.0)
    )
    shared = method.start()
    for node, personal in zip(nodes, method.personalise(shared, nodes, [None] * len(nodes)), strict=True):
        (alone,) = method.personalise(shared, [node], [None])
        assert torch.equal(alone.parameters, personal.parameters)
        rating = NETWORK.predict(personal.parameters, features).double()
        hidden = NETWORK.last_hidden(personal.parameters, features).double().numpy()
        item, user = (torch.from_numpy(column).long() for column in (node.train.item, node.train.user))
        added = (personal.predict(rows_to_predict(user, item)) - rating[item]).numpy()
        for number in np.unique(node.train.user):
            own = node.train.user == number
            residual = (torch.from_numpy(node.train.value).double() - rating[item]).numpy()[own]
            bias = residual.sum() / (own.sum() + 5.0) if how != "none" else 0.0
            expected = np.full(own.sum(), bias)
            if how == "ridge_head":
                rows = hidden[node.train.item[own]]
                weights = np.linalg.solve(rows.T @ rows + 10.0 * np.eye(4), rows.T @ (residual - bias))
                expected += rows @ weights
            np.testing.assert_allclose(added[own], expected, atol=1e-5)
        stranger = torch.full_like(user, 99)
        torch.testing.assert_close(
            personal.predict(rows_to_predict(stranger, item)), rating[item], rtol=1e-6, atol=1e-6
        )


def test_what_a_node_keeps_on_disk_is_its_network_and_its_users_heads(make_method, nodes):
    method = make_method(user_level=UserPersonalisation("ridge_head", 5.0, 10.0))
    shared = method.start()
    personal = method.personalise(shared, nodes, [None] * len(nodes))[1]
    kept = dict(personal.tensors())
    train, expected = nodes[1].train, NETWORK.named(shared.arrays["parameters"])
    assert list(kept) == [None, *np.unique(train.user).tolist()]
    assert kept[None].keys() == expected.keys()
    assert all(torch.equal(kept[None][name], expected[name]) for name in expected)
    for user in np.unique(train.user).tolist():
        assert set(kept[user]) == {"items", "ratings", "user_bias", "user_weights"}
        assert kept[user]["items"].tolist() == train.item[train.user == user].tolist()
        assert kept[user]["ratings"].tolist() == train.value[train.user == user].tolist()
        assert kept[user]["user_weights"].shape == (4,)
    without = dict(make_method().personalise(shared, nodes, [None] * len(nodes))[1].tensors())
    assert all(set(tensors) == {"items", "ratings"} for user, tensors in without.items() if user is not None)


def test_modules_are_averaged_as_the_networks_are(make_method, nodes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    stacked = make_method(predictor=ModuleNetwork(module), start_at_mean=True)
    found = run_rounds(stacked, nodes, 2).shared.arrays["parameters"]
    expected = run_rounds(replace(stacked, trainer=train_loop), nodes, 2).shared.arrays["parameters"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
