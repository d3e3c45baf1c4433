"""Experts and gates: against rounds by hand, federated averaging, and what a reader is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import run_rounds
from hierfed.errors import SettingsError
from hierfed.experiment import run_experiment
from hierfed.federated.private import StoredState
from hierfed.generated.files import write_world
from hierfed.methods.averaging.experts import ExpertsAveraging
from hierfed.methods.averaging.gates import GATES
from hierfed.observer import Observer
from hierfed.runs.reports import save_run
from hierfed.serving.served import Served
from hierfed.settings import load_settings
from tests.reference.full_batches import EPOCHS, LENGTHS, NETWORK, RATE, assert_close, full_batches

EVERY_GATE = pytest.mark.parametrize("gate", sorted(GATES))


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


@pytest.fixture
def inputs(features) -> Tensor:
    return features.double()


def experts(inputs: Tensor, gate: str, count: int, per_node: int = 1, **training) -> ExpertsAveraging:
    plain = full_batches(inputs, **training)
    return ExpertsAveraging(**vars(plain), count=count, gating=GATES[gate](per_node))


@EVERY_GATE
def test_one_expert_is_federated_averaging_to_the_bit(gate, features, nodes):
    how = {"optimizer": "adam", "batch_size": 4}
    plain = run_rounds(full_batches(features, **how), nodes, 2).shared
    found = run_rounds(experts(features, gate, 1, **how), nodes, 2).shared
    assert torch.equal(found.arrays["parameters"][0], plain.arrays["parameters"])


def rows_of(node: Node, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return inputs[torch.from_numpy(node.train.item).long()], torch.from_numpy(node.train.value).double()


def weighed_descent(start: Tensor, node: Node, inputs: Tensor, weights: Tensor) -> Tensor:
    x, y = rows_of(node, inputs)
    for _ in range(EPOCHS):
        point = start.clone().requires_grad_()
        error = NETWORK.predict_in_training(point, x, None) - y
        (slope,) = torch.autograd.grad((weights * error.square()).mean(), point)
        start = start - RATE * slope
    return start


def errors(x: Tensor, node: Node, inputs: Tensor) -> Tensor:
    rows, y = rows_of(node, inputs)
    return NETWORK.predict(x, rows) - y


def test_a_round_of_ifca_by_hand(inputs, nodes):
    method = experts(inputs, "ifca", 2)
    begin = method.start().arrays["parameters"]
    moved, weights = torch.zeros_like(begin), torch.zeros(2).double()
    for node in nodes:
        losses = [float(errors(x, node, inputs).square().mean()) for x in begin]
        best = int(np.argmin(losses))
        local = weighed_descent(begin[best], node, inputs, torch.ones(len(node.train)).double())
        moved[best] += len(node.train) * (local - begin[best])
        weights[best] += len(node.train)
    found = run_rounds(method, nodes, 1).shared.arrays["parameters"]
    assert_close(found, begin + moved / weights.clamp_min(1)[:, None])


def test_two_rounds_of_fedem_by_hand(inputs, nodes):
    method = experts(inputs, "fedem", 2)
    x, proportions = method.start().arrays["parameters"], torch.full((3, 2), 0.5).double()
    for _ in range(2):
        moved = torch.zeros_like(x)
        for k, node in enumerate(nodes):
            likelihood = torch.stack([(-errors(each, node, inputs).square() / 2).exp() for each in x])
            found = proportions[k][:, None] * likelihood
            found = found / found.sum(0)
            proportions[k] = found.mean(1)
            for j in range(2):
                moved[j] += len(node.train) * (weighed_descent(x[j], node, inputs, found[j]) - x[j])
        x = x + moved / sum(LENGTHS)
    result = run_rounds(method, nodes, 2)
    assert_close(result.shared.arrays["parameters"], x)
    for state, expected in zip(result.private, proportions, strict=True):
        assert_close(state.kept()["proportions"], expected)


def test_a_pool_moves_what_its_nodes_asked_for_and_tries_others_next(inputs, nodes):
    method = experts(inputs, "pool", 4, per_node=2)
    begin = method.start()
    first = run_rounds(method, nodes, 1)
    moved = (first.shared.arrays["parameters"] != begin.arrays["parameters"]).any(1)
    asked = torch.stack([state.kept()["asked"] for state in first.private])
    assert (asked.sum(1) == 2).all()
    assert torch.equal(moved, asked.any(0))
    assert torch.equal(first.shared.arrays["asked"], asked.sum(0).double())
    for sent, _ in method.contribute(begin, nodes, [None] * 3):
        assert torch.equal(sent.arrays["change"].any(1), sent.arrays["asked"] > 0)
        assert float(sent.arrays["weights"].sum()) == pytest.approx(float(sent.arrays["rows"]))
    second = run_rounds(method, nodes, 2)
    for state, before in zip(second.private, asked, strict=True):
        # One of the two falls below a quarter, and an expert that was never tried comes next.
        assert (state.kept()["asked"] > 0).sum() == 3
        assert (state.kept()["asked"][before == 1] >= 1).all()
        assert float(state.kept()["proportions"].sum()) == pytest.approx(1)


@EVERY_GATE
def test_a_node_goes_on_from_its_gate_on_disk_and_depends_on_no_other_node(gate, features, nodes):
    method = experts(features, gate, 3, 2 if gate == "pool" else 1, optimizer="adam", batch_size=4)
    first = run_rounds(method, nodes, 1)
    together = list(method.contribute(first.shared, nodes, first.private))
    for node, state, (sent, _) in zip(nodes, first.private, together, strict=True):
        ((alone, _),) = method.contribute(first.shared, [node], [StoredState(state.kept())])
        assert all(torch.equal(alone.arrays[name], array) for name, array in sent.arrays.items())


def test_experts_that_nobody_asks_for_are_named(inputs, nodes):
    method = experts(inputs, "ifca", 3)
    start = method.start()
    arrays = dict(start.arrays)
    arrays["parameters"] = arrays["parameters"].clone()
    # The others predict a hundred stars, so that all gates end on one expert.
    arrays["parameters"][1:, NETWORK.head.stop - 1] += 100
    shared = replace(start, arrays=arrays)
    total = sum(
        (sent for sent, _ in method.contribute(shared, nodes[1:], [None] * 2)),
        start=next(sent for sent, _ in method.contribute(shared, nodes[:1], [None])),
    )
    after = method.combine(shared, total)
    assert after.arrays["share"].tolist() == [1, 0, 0]
    assert torch.equal(after.arrays["parameters"][1:], arrays["parameters"][1:])


@EVERY_GATE
def test_a_run_is_told_secured_saved_and_served(gate, tmp_path):
    write_world(tmp_path / "world", users=40, items=60, ratings=1_200, seed=3)
    changes = {
        "source": str(tmp_path / "world"),
        "protocol": "warm",
        "partition": "users",
        "nodes": 4,
        "personal_nodes": 4,
        "rounds": 2,
        "ledger": "none",
        "experts": 3,
        "gate": gate,
        **({"experts_per_node": 2} if gate == "pool" else {}),
    }
    told: list[str] = []

    class Hears(Observer):
        def note(self, line: str) -> None:
            told.append(line)

    outcome = run_experiment(load_settings("network", changes), observers=[Hears()])
    unasked = int((outcome.shared.arrays["asked"] == 0).sum())
    assert any("nobody asked for" in line for line in told) == (unasked > 0)
    other = run_experiment(load_settings("network", {**changes, "threads": 2, "secure_sums": True}))
    for name, array in outcome.shared.arrays.items():
        torch.testing.assert_close(other.shared.arrays[name], array, rtol=1e-4, atol=1e-4)
    save_run(outcome, tmp_path / "run")
    served, items = Served(tmp_path / "run"), torch.arange(len(outcome.dataset.catalogue))
    node, model = outcome.personal_nodes[0], outcome.personal_models[0]
    number = int(node.train.user[0])
    user = served.user(str(outcome.dataset.user_ids[number]))
    assert user is not None
    found = user.model.predict(rows_to_predict(torch.zeros_like(items), items))
    expected = model.predict(rows_to_predict(torch.full_like(items, number), items))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(served.recommend("nobody", 5).items) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experts": 9}, "there are 8 nodes"),
        ({"experts": 3, "experts_per_node": 4}, "cannot ask for 4"),
        ({"experts": 3, "gate": "ifca", "experts_per_node": 2}, "gate 'pool'"),
        ({"gate": "ifca"}, "one expert"),
        ({"experts": 3, "depth": 2}, "residual blocks"),
        ({"experts": 3, "kept": "head"}, "training.kept"),
        ({"experts": 3, "server_optimizer": "adam"}, "federation.server_optimizer"),
        ({"experts": 3, "rule": "median"}, "federation.rule"),
    ],
)
def test_what_cannot_work_is_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        load_settings("network", changes)
