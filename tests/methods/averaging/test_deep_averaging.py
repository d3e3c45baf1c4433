"""Networks with vectors and residual blocks: against rounds by hand, plain averaging, and runs that are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.errors import SettingsError
from hierfed.experiment import run_experiment
from hierfed.federated.private import StoredState
from hierfed.generated.files import write_world
from hierfed.methods.averaging.deep_averaging import DeepAveraging, deepened
from hierfed.outcome import Outcome
from hierfed.runs.reports import save_run
from hierfed.serving.served import Served
from hierfed.settings import load_settings
from tests.reference.full_batches import EPOCHS, LENGTHS, assert_close, full_batches

VECTORS = {"item_vector_size": 3, "user_vector_size": 3, "vector_rate": 0.02, "vector_penalty": 0.1}
FACTORS = {**VECTORS, "hidden": [], "item_features": "leave_out", "min_raters": 4}
DEEP = {**VECTORS, "depth": 3, "hidden": [8]}
WORLD = {"protocol": "warm", "partition": "users", "nodes": 3, "personal_nodes": 3, "rounds": 2, "ledger": "none"}


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


@pytest.fixture
def inputs(features) -> Tensor:
    return features.double()


def deep(inputs: Tensor, changes: dict[str, Any], start_at_mean: bool = True, **training: Any) -> DeepAveraging:
    plain = replace(full_batches(inputs, **training), start_at_mean=start_at_mean)
    return deepened(plain, load_settings("network", changes))


def test_without_vectors_and_blocks_it_is_federated_averaging(inputs, nodes):
    method = deep(inputs, {"hidden": [4], "item_features": "use"}, start_at_mean=False)
    expected = run_rounds(full_batches(inputs), nodes, 2).shared.arrays["parameters"]
    assert_close(run_rounds(method, nodes, 2).shared.arrays["parameters"], expected)


def test_factors_by_hand(inputs, nodes):
    """FedMF on full batches: every rating moves both of its vectors, and the network moves by the mean."""
    method = deep(inputs, FACTORS)
    counts = np.bincount(np.concatenate([node.train.item for node in nodes]), minlength=len(inputs))
    shared = method.start()
    e = shared.arrays["item_vectors"] * torch.from_numpy(counts >= 4)[:, None]
    parameters = shared.arrays["parameters"].clone()
    stars = np.concatenate([node.train.value for node in nodes]).astype(float)
    parameters[method.network.head.stop - 1] = stars.mean()
    one = torch.tensor([1.0, 0.0, 0.0]).double()
    rare = torch.from_numpy(counts < 4)
    moved, network, rows = torch.zeros_like(e), torch.zeros_like(parameters), torch.zeros(len(e), 1).double()
    vectors = []
    for node in nodes:
        item, user = torch.from_numpy(node.train.item).long(), torch.from_numpy(node.train.user).long()
        own, p, x = e.clone(), torch.zeros(7, 3).double(), parameters.clone()
        for _ in range(EPOCHS):
            weight, (bias,) = x[method.network.layers[0].weight], x[method.network.layers[0].bias]
            w_item, w_user = weight[:3], weight[3:]
            a, b = own[item], p[user]
            biases = a[:, 0] + b[:, 0] + bias
            error = a @ w_item + b @ w_user + biases + (a * b)[:, 1:].sum(1) - torch.from_numpy(node.train.value)
            x = x.clone()
            x[method.network.layers[0].weight] -= 0.05 * 2 * torch.cat([error @ a, error @ b]) / len(item)
            x[method.network.layers[0].bias] -= 0.05 * 2 * error.mean()
            own = own.index_add(0, item, -0.02 * (error[:, None] * (w_item + one + (1 - one) * b) + 0.1 * a))
            own[rare] = 0
            p = p.index_add(0, user, -0.02 * (error[:, None] * (w_user + one + (1 - one) * a) + 0.1 * b))
        n = torch.bincount(item, minlength=len(e)).double()[:, None]
        moved, rows = moved + n * (own - e), rows + n
        network = network + len(item) * (x - parameters)
        vectors.append(p)
    found = run_rounds(method, nodes, 1)
    assert_close(found.shared.arrays["item_vectors"], e + moved / rows.clamp_min(1))
    assert_close(found.shared.arrays["parameters"], parameters + network / sum(LENGTHS))
    assert not found.shared.arrays["item_vectors"][rare].any()
    for state, p in zip(found.private, vectors, strict=True):
        kept = state.kept()
        assert_close(kept["vectors"], p[kept["users"]])


def test_blocks_by_hand(inputs):
    method = deep(inputs, DEEP)
    network, random = method.network, torch.Generator().manual_seed(1)
    parameters = torch.randn(network.parameter_count, generator=random).double()
    e, p = torch.randn(2, 4, 3, generator=random).double()
    x = inputs[:4]
    named = network.named(parameters)
    a = torch.cat([x, e, p], 1)
    for layer in range(3):
        below = a if layer == 0 else layer_norm(a, (8,))
        here = (below @ named[f"layers.{layer}.weight"].T + named[f"layers.{layer}.bias"]).relu()
        a = here if layer == 0 else a + here
    expected = layer_norm(a, (8,)) @ named["layers.3.weight"][0] + named["layers.3.bias"]
    expected = expected + e[:, 0] + p[:, 0] + (p * ((x @ named["projection"]).tanh() + e))[:, 1:].sum(1)
    found, _ = network.outputs([parameters[None, part] for part in network.slices()], x[None], e[None], p[None])
    assert_close(found[0], expected)
    assert_close(network.flat(named), parameters * _occupied(network.slices(), len(parameters)))


def _occupied(parts: Sequence[slice], length: int) -> Tensor:
    places = torch.zeros(length).double()
    for part in parts:
        places[part] = 1
    return places


@pytest.mark.parametrize("changes", [FACTORS, DEEP], ids=["factors", "deep"])
def test_a_nodes_numbers_depend_on_no_other_node(changes, features, nodes):
    method = deep(features, changes, batch_size=4, optimizer="adam")
    shared = run_rounds(method, nodes, 1).shared
    together = list(method.contribute(shared, nodes, [None] * 3))
    for node, (sent, state) in zip(nodes, together, strict=True):
        ((alone, own),) = method.contribute(shared, [node], [None])
        assert all(torch.equal(alone.arrays[name], array) for name, array in sent.arrays.items())
        assert torch.equal(own.kept()["vectors"], state.kept()["vectors"])


def test_vectors_of_users_go_on_from_where_the_node_kept_them(inputs, nodes):
    method = deep(inputs, FACTORS)
    first = run_rounds(method, nodes, 1)
    stored = [StoredState(state.kept()) for state in first.private]
    whole = run_rounds(method, nodes, 2)
    again = [sent for sent, _ in method.contribute(first.shared, nodes, stored)]
    other = [sent for sent, _ in method.contribute(first.shared, nodes, first.private)]
    assert all(torch.equal(a.arrays["change"], b.arrays["change"]) for a, b in zip(again, other, strict=True))
    total = again[0] + again[1] + again[2]
    assert method.combine(first.shared, total).digest() == whole.shared.digest()


def test_a_new_user_starts_at_zero_and_learns_from_own_ratings(inputs, nodes, make_node):
    method = deep(inputs, FACTORS)
    shared = run_rounds(method, nodes, 2).shared
    stranger = make_node(9, 12)
    stranger = replace(stranger, train=replace(stranger.train, user=stranger.train.user * 0 + 70))
    (model,) = method.personalise(shared, [stranger], [None])
    asked = rows_to_predict(np.array([70, 71]), np.array([3, 3]))
    known, unknown = model.predict(asked).tolist()
    assert unknown == pytest.approx(float(method.predict(shared, asked)[0]))
    assert known != unknown


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("deep") / "world"
    write_world(place, users=40, items=60, ratings=1_200, seed=3)
    return str(place)


@pytest.fixture(scope="module")
def outcome(source) -> Outcome:
    return run_experiment(load_settings("network", {**WORLD, **DEEP, "source": source}))


def test_threads_and_secure_sums_change_nothing(outcome, source):
    threads = run_experiment(load_settings("network", {**WORLD, **DEEP, "source": source, "threads": 2}))
    assert threads.result.digest == outcome.result.digest
    assert threads.result.users == outcome.result.users
    secure = run_experiment(load_settings("network", {**WORLD, **DEEP, "source": source, "secure_sums": True}))
    for name, array in outcome.shared.arrays.items():
        torch.testing.assert_close(secure.shared.arrays[name], array, rtol=1e-4, atol=1e-4)


def test_a_saved_run_serves_what_the_run_predicted(outcome, tmp_path):
    save_run(outcome, tmp_path / "run")
    served, items = Served(tmp_path / "run"), torch.arange(len(outcome.dataset.catalogue))
    node, model = outcome.personal_nodes[0], outcome.personal_models[0]
    number = int(node.train.user[0])
    user = served.user(str(outcome.dataset.user_ids[number]))
    assert user is not None
    found = user.model.predict(rows_to_predict(torch.zeros_like(items), items))
    expected = model.predict(rows_to_predict(torch.full_like(items, number), items))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(served.recommend(str(outcome.dataset.user_ids[number]), 5).items) == 5
    assert len(served.recommend("nobody", 5).items) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"item_vector_size": 3, "user_vector_size": 4}, "make them equal"),
        ({"depth": 2, "hidden": []}, "name a width"),
        ({"item_features": "leave_out"}, "see nothing"),
        ({**VECTORS, "output_bias": "random"}, "train_mean"),
        ({**VECTORS, "kept": "head"}, "training.kept"),
        ({**VECTORS, "own_model": "ditto"}, "training.own_model"),
        ({**VECTORS, "correction": "nova"}, "training.correction"),
        ({**VECTORS, "node_level": "ditto"}, "node_level"),
    ],
)
def test_what_was_never_tried_is_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        load_settings("network", changes)
