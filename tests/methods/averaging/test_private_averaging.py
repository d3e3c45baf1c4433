"""What nodes send under differential privacy: clipped, noised, on a grid, and nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, ordered_sum
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network, Predictor, occupied
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.private_averaging import ExamplePrivateAveraging, NodePrivateAveraging
from hierfed.methods.averaging.private_training import train_privately
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining, Trainer
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.privacy.discrete_gaussian import FINEST_GRID, grid_of
from hierfed.private_randomness import PrivateStreams
from tests.reference.private_loop import train_privately_in_a_loop

NETWORK = Network(5, (8, 4))
PLACES = occupied(NETWORK)
TRAINING = LocalTraining(epochs=2, batch_size=8, learning_rate=0.01)
LENGTHS = (10, 31, 4, 17)
KEYS = PrivateStreams(bytes(32))
MakeMethod = Callable[..., FederatedAveraging]


@pytest.fixture(scope="module")
def plain(features) -> dict[str, Any]:
    return {
        "predictor": NETWORK,
        "trainer": train_stacked,
        "features": features,
        "training": TRAINING,
        "node_level": NodePersonalisation("none", TRAINING),
        "user_level": UserPersonalisation("none", 5.0, 10.0),
        "start_at_mean": False,
        "seed": 4,
        "clip_norm": 0.5,
        "allow": lambda _round_number, _rows: 0.8,
        "streams": KEYS,
    }


@pytest.fixture(scope="module")
def by_example(plain) -> ExamplePrivateAveraging:
    return ExamplePrivateAveraging(**plain, private_trainer=train_privately, threads=1)


@pytest.fixture(scope="module")
def by_node(plain) -> NodePrivateAveraging:
    return NodePrivateAveraging(**plain, noise_nodes=3)


@pytest.fixture(scope="module")
def nodes(make_node) -> list[Node]:
    return [make_node(number, rows) for number, rows in enumerate(LENGTHS)]


def sent_by(method: FederatedAveraging, nodes: Sequence[Node], number: int = 1) -> list[Contribution]:
    shared = replace(method.start(), round=number - 1)
    return [sent for sent, _ in method.contribute(shared, nodes, [None] * len(nodes))]


def ends_at(known: Tensor) -> Trainer:
    """A trainer whose nodes end at known parameters, wherever they start."""

    def train(
        _predictor: Predictor, _start: Tensor, _features: Tensor, nodes: Sequence[Node], *_: object
    ) -> tuple[Tensor, Tensor]:
        return known[[node.number for node in nodes]], torch.ones(len(nodes), 2, dtype=torch.float64)

    return train


@pytest.mark.parametrize("unit", ["by_example", "by_node"])
def test_no_loss_and_no_mean_of_ratings_is_sent(unit, nodes, request):
    method = request.getfixturevalue(unit)
    assert method.start().round == 0
    sent = sent_by(method, nodes)
    assert all(set(each.arrays) == {"change", "rows" if unit == "by_example" else "nodes"} for each in sent)
    assert method.train_loss(ordered_sum(sent)) == []


@pytest.mark.parametrize("unit", ["by_example", "by_node"])
def test_without_a_secret_of_its_own_a_node_sends_nothing(unit, nodes, request):
    method = replace(request.getfixturevalue(unit), streams=None)
    with pytest.raises(HierfedError, match="needs a secret"):
        sent_by(method, nodes)


@pytest.mark.parametrize("unit", ["by_example", "by_node"])
def test_each_round_and_each_nodes_rows_are_asked_for_before_anything_is_trained(unit, nodes, request):
    asked = []

    class Refused(Exception):
        pass

    def allow(round_number: int, rows: int) -> float:
        asked.append((round_number, rows))
        if len(asked) == len(LENGTHS):
            raise Refused
        return 1.0

    def train(*_: object) -> tuple[Tensor, Tensor]:
        raise AssertionError("trained without being allowed to")

    changes = {"private_trainer": train} if unit == "by_example" else {"trainer": train}
    with pytest.raises(Refused):
        sent_by(replace(request.getfixturevalue(unit), allow=allow, **changes), nodes, number=3)
    assert asked == [(3, rows) for rows in LENGTHS]


@pytest.mark.parametrize("unit", ["by_example", "by_node"])
def test_a_nodes_contribution_does_not_depend_on_the_others(unit, nodes, request):
    method = request.getfixturevalue(unit)
    together = sent_by(method, nodes)
    for node, sent in zip(nodes, together, strict=True):
        (alone,) = sent_by(method, [node])
        assert all(torch.equal(sent.arrays[name], alone.arrays[name]) for name in sent.arrays)
    again = sent_by(method, nodes, number=2)
    assert not torch.equal(again[0].arrays["change"], together[0].arrays["change"])


@pytest.mark.parametrize("unit", ["by_example", "by_node"])
def test_nodes_that_learn_alone_for_comparison_do_so_without_noise(unit, nodes, request, plain):
    method = request.getfixturevalue(unit)
    usual = {name: value for name, value in plain.items() if name not in {"clip_norm", "allow", "streams"}}
    assert torch.equal(method.train_alone(nodes, 2), FederatedAveraging(**usual).train_alone(nodes, 2))


# Unit example.


def test_the_mean_over_nodes_is_weighted_by_rows_and_the_loop_agrees(by_example, nodes):
    stacked = run_rounds(by_example, nodes, 2).shared.arrays["parameters"]
    loop = replace(by_example, private_trainer=train_privately_in_a_loop)
    torch.testing.assert_close(run_rounds(loop, nodes, 2).shared.arrays["parameters"], stacked, rtol=0, atol=1e-5)
    known = 0.1 * torch.randn(4, NETWORK.parameter_count, generator=torch.Generator().manual_seed(0))

    def known_ends(_protection: object, *arguments: Any) -> tuple[Tensor, Tensor]:
        return ends_at(known)(*arguments)

    fixed = replace(by_example, private_trainer=known_ends)
    expected = sum(rows * known[node].double() for node, rows in enumerate(LENGTHS)) / sum(LENGTHS)
    after = fixed.combine(fixed.start(), ordered_sum(sent_by(fixed, nodes)))
    torch.testing.assert_close(after.arrays["parameters"].double(), expected, rtol=0, atol=1e-6)


def test_every_node_trains_with_the_noise_that_its_own_rows_need(by_example, nodes):
    seen = {}

    def spy(protection: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        seen.update(protection.noise_multipliers)
        assert protection.clip_norm == 0.5
        return train_privately(protection, *arguments)

    sent_by(replace(by_example, private_trainer=spy, allow=lambda _, rows: rows / 10), nodes)
    assert seen == {number: rows / 10 for number, rows in enumerate(LENGTHS)}


def test_threads_change_nothing(by_example, nodes):
    digests = {run_rounds(replace(by_example, threads=threads), nodes, 2).shared.digest() for threads in (1, 3)}
    assert len(digests) == 1


# Unit node.


def test_changes_are_clipped_and_averaged_without_weights(by_node, nodes):
    start = by_node.start().arrays["parameters"]
    random = torch.Generator().manual_seed(0)
    moves = torch.randn(4, NETWORK.parameter_count, generator=random) * PLACES * torch.tensor([[1e-3], [1.0], [9], [0]])
    method = replace(by_node, trainer=ends_at(start + moves), allow=lambda _round_number, _rows: 0.0)
    sent = sent_by(method, nodes)
    exact = (start + moves).double() - start.double()
    clipped = [move * min(1.0, 0.5 / max(float(move.norm()), 1e-300)) for move in exact]
    for found, expected in zip(sent, clipped, strict=True):
        torch.testing.assert_close(found.arrays["change"], expected, rtol=0, atol=FINEST_GRID)
        assert float(found.arrays["change"].norm()) <= 0.5
    after = method.combine(method.start(), ordered_sum(sent)).arrays["parameters"]
    torch.testing.assert_close(after, (start.double() + sum(clipped) / 4).float(), rtol=0, atol=1e-6)


def test_the_sum_of_the_nodes_noise_has_the_deviation_that_the_budget_asks_for(by_node, nodes):
    start = by_node.start().arrays["parameters"]
    method = replace(by_node, trainer=ends_at(start.expand(4, -1)), clip_norm=2.0)
    grid, sums = grid_of(0.8 * 2.0 / math.sqrt(3)), []
    for number in range(1, 200):
        sent = sent_by(method, nodes[:3], number)
        total = ordered_sum(sent).arrays["change"]
        assert not total[~PLACES].any()
        assert torch.equal(total / grid, torch.round(total / grid))
        sums.append(total[PLACES].numpy())
    # Three nodes share the noise, so the sum of three carries 0.8 x 2.0 in each coordinate.
    scaled = np.concatenate(sums) / (0.8 * 2.0)
    assert stats.kstest(scaled, "norm").pvalue > 1e-3
    assert 1e-3 < stats.chi2.cdf((scaled**2).sum(), scaled.size) < 1 - 1e-3


def test_noise_of_nodes_and_rounds_is_independent(by_node, nodes):
    start = by_node.start().arrays["parameters"]
    method = replace(by_node, trainer=ends_at(start.expand(4, -1)))
    rows = [each.arrays["change"][PLACES].numpy() for number in range(1, 6) for each in sent_by(method, nodes, number)]
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 5 / math.sqrt(int(PLACES.sum()))


def test_how_far_noise_swamps_the_nodes_is_its_measured_length(by_node, nodes):
    start = by_node.start().arrays["parameters"]
    method = replace(by_node, trainer=ends_at(start.expand(4, -1)))
    lengths = [float(ordered_sum(sent_by(method, nodes, number)).arrays["change"].norm()) for number in range(1, 60)]
    largest = len(nodes) * method.clip_norm
    assert method.swamped(len(nodes), 0.8) == pytest.approx(np.mean(lengths) / largest, rel=0.05)
