"""Shared and kept parts of a network, against rounds by hand and plain averaging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import SettingsError
from hierfed.federated.participation import Participation
from hierfed.federated.private import StoredState
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.parts import PARTS, partial_averaging
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


@pytest.fixture
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


@pytest.fixture
def inputs(features) -> Tensor:
    return features.double()


@pytest.fixture
def plain(inputs) -> FederatedAveraging:
    return full_batches(inputs)


@pytest.mark.parametrize(
    ("kept", "turns"),
    [
        ("head", ("all",)),
        ("head", ("head", "body")),
        ("head", ("head", "head", "body")),
        ("body", ("all",)),
        ("none", ("body",)),
    ],
    ids=["FedPer", "FedRep", "FedRep with two head updates", "LG-FedAvg", "FedBABU"],
)
def test_two_rounds_by_hand(kept, turns, plain, nodes, inputs):
    own = PARTS[kept](NETWORK)
    x = plain.start().arrays["parameters"]
    local = [x.clone() for _ in nodes]
    for _ in range(2):
        for k, node in enumerate(nodes):
            y = x.clone()
            y[own] = local[k][own]
            for turn in turns:
                part = PARTS[turn](NETWORK)
                for _ in range(EPOCHS):
                    y[part] = y[part] - RATE * gradient(y, inputs, [node])[part]
            local[k] = y
        before, x = x, mean_over_rows(local)
        x[own] = before[own]
    method = partial_averaging(plain, kept, turns)
    found = run_rounds(method, nodes, 2)
    assert_close(found.shared.arrays["parameters"], x)
    for y, model in zip(local, method.personalise(found.shared, nodes, found.private), strict=True):
        y[: own.start], y[own.stop :] = x[: own.start], x[own.stop :]
        assert_close(model.parameters, y)


def test_nothing_kept_is_federated_averaging_to_the_bit(plain, nodes):
    small = replace(plain, training=replace(plain.training, batch_size=8, optimizer="adam"))
    expected = run_rounds(small, nodes, 3)
    assert run_rounds(partial_averaging(small, "none", ["all"]), nodes, 3).shared.digest() == expected.shared.digest()


def test_a_lone_node_that_keeps_its_head_is_plain_training(plain, nodes):
    found = run_rounds(method := partial_averaging(plain, "head", ["all"]), nodes[:1], 3)
    (model,) = method.personalise(found.shared, nodes[:1], found.private)
    assert_close(model.parameters, run_rounds(plain, nodes[:1], 3).shared.arrays["parameters"])


def test_nodes_that_are_alike_keep_alike(plain, make_node):
    rows = make_node(0, 12).train
    alike = [replace(make_node(number, 12), train=rows) for number in range(3)]
    found = run_rounds(method := partial_averaging(plain, "head", ["all"]), alike, 3)
    for model in method.personalise(found.shared, alike, found.private):
        assert_close(model.parameters, run_rounds(plain, alike, 3).shared.arrays["parameters"])


@pytest.mark.parametrize("kept", ["head", "body"])
def test_what_is_kept_is_not_sent(kept, plain, nodes):
    method = partial_averaging(plain, kept, ["all"])
    own = PARTS[kept](NETWORK)
    for sent, state in method.contribute(method.start(), nodes, [None] * 3):
        assert sent.arrays["change"].numel() == NETWORK.parameter_count - (own.stop - own.start)
        assert state is not None
        assert state.kept()["vector"].numel() == own.stop - own.start


def test_a_node_goes_on_from_what_its_disk_kept(plain, nodes):
    method = partial_averaging(plain, "head", ["head", "body"])
    first = run_rounds(method, nodes, 1)
    read = [StoredState(state.kept()) for state in first.private if state is not None]
    again = run_rounds(method, nodes, 3, begin=replace(first, private=read))
    assert again.shared.digest() == run_rounds(method, nodes, 3).shared.digest()


def test_a_node_that_is_absent_keeps_its_part(plain, nodes):
    some = Round(participation=Participation(2, seed=1))
    present = some.participation.places(1, 3)
    assert len(present) == 2
    private = run_rounds(partial_averaging(plain, "head", ["all"]), nodes, 1, how=some).private
    assert [state is not None for state in private] == [place in present for place in range(3)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"turns": []}, "nothing is trained"),
        ({"kept": "head", "turns": ["head"]}, "no shared part is ever trained"),
        ({"kept": "head", "privacy_unit": "example", "output_bias": "random"}, "never tried under differential"),
        ({"kept": "head", "correction": "nova"}, "leave it at 'none'"),
        ({"kept": "head", "mode": "async"}, "late answers"),
        ({"kept": "all"}, "kept"),
    ],
)
def test_settings_without_sense_are_refused(changes, reason):
    with pytest.raises(SettingsError, match=reason) as refused:
        load_settings("network", changes)
    assert "\n" not in str(refused.value)


def test_only_networks_keep_parts():
    with pytest.raises(SettingsError, match="takes no local steps"):
        load_settings("hierarchical", {"kept": "head"})


def test_a_kept_part_that_is_the_whole_network_or_none_of_it_is_refused(plain):
    flat = replace(plain, predictor=Network(5, ()))
    for kept, turns, reason in [("head", ["all"], "is the whole network"), ("none", ["body"], "has no body")]:
        with pytest.raises(SettingsError, match=reason):
            partial_averaging(flat, kept, turns)
