"""FedNova, SCAFFOLD and FedDyn against two rounds of a plain loop over their equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import SettingsError
from hierfed.federated.contract import SharedModel
from hierfed.federated.fed_avgm import FedAvgM
from hierfed.federated.participation import Participation
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.corrections import (
    DynamicAveraging,
    NormalisedAveraging,
    ScaffoldAveraging,
    corrected,
)
from hierfed.settings import load_settings
from tests.reference.full_batches import (
    EPOCHS,
    LENGTHS,
    RATE,
    ROWS,
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


def test_fed_nova_by_hand(plain, nodes, inputs):
    # Batches of 64 give each node three steps; batches of 10 give 3, 12 and 6, of which the mean over rows is 8.69.
    method = corrected(replace(plain, training=replace(plain.training, batch_size=10)), "nova", 1.0, 3)
    assert isinstance(method, NormalisedAveraging)
    x = method.start()
    for _ in range(2):
        changes = [change for change, _ in plain_changes(method, x, nodes)]
        steps = [3, 12, 6]
        mean = mean_over_rows([change / count for change, count in zip(changes, steps, strict=True)])
        expected = x.arrays["parameters"] + (10 * 3 + 31 * 12 + 17 * 6) / ROWS * mean
        x = run_rounds(method, nodes, x.round + 1, begin=trained(x, nodes)).shared
        assert_close(x.arrays["parameters"], expected)


def plain_changes(
    method: FederatedAveraging, shared: SharedModel, nodes: Sequence[Node]
) -> list[tuple[Tensor, Tensor]]:
    return list(method.local_changes(shared, nodes, method.trainer))


def trained(shared: SharedModel, nodes: Sequence[Node]):
    from hierfed.federated.method import Trained

    return Trained(shared, [None] * len(nodes))


def test_fed_nova_with_equal_steps_is_fed_avg(plain, nodes):
    nova = run_rounds(corrected(plain, "nova", 1.0, 3), nodes, 2).shared
    assert_close(nova.arrays["parameters"], run_rounds(plain, nodes, 2).shared.arrays["parameters"])


def test_fed_nova_counts_the_steps_that_a_proximal_term_lets_fade(plain):
    method = corrected(replace(plain, training=replace(plain.training, proximal=2.0)), "nova", 1.0, 3)
    assert isinstance(method, NormalisedAveraging)
    assert method._steps(10) == pytest.approx(1 + 0.9 + 0.81)


def scaffold_by_hand(x: Tensor, inputs: Tensor, nodes: Sequence[Node], rounds: Sequence[Sequence[int]]) -> Tensor:
    """The parameters after rounds in which these nodes take part."""
    server, own = torch.zeros_like(x), [torch.zeros_like(x) for _ in nodes]
    for present in rounds:
        rows = sum(LENGTHS[k] for k in present)
        moved, refreshed = torch.zeros_like(x), torch.zeros_like(x)
        for k in present:
            y = x.clone()
            for _ in range(EPOCHS):
                y = y - RATE * (gradient(y, inputs, [nodes[k]]) - own[k] + server)
            after = own[k] - server + (x - y) / (EPOCHS * RATE)
            moved += LENGTHS[k] / rows * (y - x)
            refreshed += LENGTHS[k] / rows * (after - own[k])
            own[k] = after
        x, server = x + moved, server + len(present) / len(nodes) * refreshed
    return x


def test_scaffold_by_hand(plain, nodes, inputs):
    method = corrected(plain, "scaffold", 1.0, 3)
    found = run_rounds(method, nodes, 2).shared
    everyone = [range(3), range(3)]
    assert_close(
        found.arrays["parameters"], scaffold_by_hand(plain.start().arrays["parameters"], inputs, nodes, everyone)
    )
    plain_model = run_rounds(plain, nodes, 2).shared
    assert not torch.allclose(found.arrays["parameters"], plain_model.arrays["parameters"], rtol=1e-3)


def test_scaffold_with_some_of_the_nodes_by_hand(plain, nodes, inputs):
    some = Participation(2, seed=1)
    present = [some.places(number, 3).tolist() for number in range(1, 5)]
    assert any(each != present[0] for each in present)
    method = corrected(plain, "scaffold", 2, 3)
    found = run_rounds(method, nodes, 4, how=Round(participation=some)).shared
    assert_close(
        found.arrays["parameters"], scaffold_by_hand(plain.start().arrays["parameters"], inputs, nodes, present)
    )


def test_scaffold_with_one_local_step_of_all_nodes_is_sgd(plain, nodes, inputs):
    method = corrected(replace(plain, training=replace(plain.training, epochs=1)), "scaffold", 1.0, 3)
    x = plain.start().arrays["parameters"]
    for _ in range(4):
        x = x - RATE * gradient(x, inputs, nodes)
    assert_close(run_rounds(method, nodes, 4).shared.arrays["parameters"], x)


def test_fed_dyn_by_hand(plain, nodes, inputs):
    strength = 0.4
    method = corrected(replace(plain, training=replace(plain.training, proximal=strength)), "dyn", 1.0, 3)
    assert isinstance(method, DynamicAveraging)
    x = plain.start().arrays["parameters"]
    drift, own = torch.zeros_like(x), [torch.zeros_like(x) for _ in nodes]
    for _ in range(2):
        local = []
        for k, node in enumerate(nodes):
            y = x.clone()
            for _ in range(EPOCHS):
                y = y - RATE * (gradient(y, inputs, [node]) - own[k] + strength * (y - x))
            own[k] = own[k] - strength * (y - x)
            local.append(y)
        drift = drift - strength * mean_over_rows([y - x for y in local])
        x = mean_over_rows(local) - drift / strength
    found = run_rounds(method, nodes, 2).shared
    assert_close(found.arrays["parameters"], x)
    assert set(found.server) == {"drift"}


def test_a_server_optimizer_keeps_its_arrays_beside(plain, nodes):
    momentum = replace(plain, optimizer=FedAvgM(0.5), training=replace(plain.training, proximal=0.4))
    assert set(run_rounds(corrected(momentum, "dyn", 1.0, 3), nodes, 2).shared.server) == {"drift", "momentum"}
    scaffold = run_rounds(corrected(momentum, "scaffold", 1.0, 3), nodes, 2).shared
    assert set(scaffold.server) == {"momentum"}
    assert set(scaffold.arrays) == {"parameters", "control"}


def test_corrections_keep_every_field_of_the_plain_method(plain):
    for name in ("nova", "scaffold", "dyn"):
        method = corrected(plain, name, 1.0, 3)
        assert all(getattr(method, each.name) is getattr(plain, each.name) for each in fields(FederatedAveraging))
    assert isinstance(corrected(plain, "scaffold", 4, 8), ScaffoldAveraging)


@pytest.mark.parametrize(
    ("preset", "changes", "reason"),
    [
        ("network", {"correction": "scaffold"}, "set training.optimizer to 'sgd'"),
        ("network", {"correction": "scaffold", "optimizer": "sgd", "proximal": 0.1}, "training.proximal to 0"),
        ("network", {"correction": "dyn"}, "set that above 0"),
        ("network", {"correction": "nova", "privacy_unit": "example", "output_bias": "random"}, "never tried"),
        ("hierarchical", {"correction": "nova"}, "takes no local steps"),
        ("hierarchical", {"training.optimizer": "sgd"}, "takes no local steps"),
    ],
)
def test_settings_without_sense_are_refused(preset, changes, reason):
    with pytest.raises(SettingsError, match=reason):
        load_settings(preset, changes)
