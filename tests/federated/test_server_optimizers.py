"""FedAvgM, FedYogi and FedAdagrad against two rounds computed by hand; see test_fed_adam.py for FedAdam."""

from __future__ import annotations

import pytest
import torch

from hierfed.federated.fed_adagrad import FedAdagrad
from hierfed.federated.fed_avgm import FedAvgM
from hierfed.federated.fed_yogi import FedYogi
from hierfed.federated.server_optimizers import ServerOptimizer
from hierfed.federated.tables import SERVER_OPTIMIZERS
from hierfed.settings import load_settings


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def two_steps(optimizer: ServerOptimizer) -> list[list[float]]:
    """From (1, 2), by the changes (2, -1) and (0, 1)."""
    first, server = optimizer.step(vector(1.0, 2.0), vector(2.0, -1.0), {})
    second, _ = optimizer.step(first, vector(0.0, 1.0), server)
    return [first.tolist(), second.tolist()]


def test_fed_avgm():
    # m = (2, -1), then .5 m + (0, 1) = (1, .5)
    assert two_steps(FedAvgM(learning_rate=0.1, decay=0.5)) == [
        pytest.approx([1.2, 1.9], rel=1e-14),
        pytest.approx([1.3, 1.95], rel=1e-14),
    ]


def test_fed_yogi():
    # v = .25 - .25 d^2 sign(.25 - d^2) = (1.25, .5); then d^2 = (0, 1): v = (1.25, .5 + .25). m = .5 m + .5 d.
    first = [1 + 0.1 * 1.0 / (1.25**0.5 + 0.5), 2 - 0.1 * 0.5 / (0.5**0.5 + 0.5)]
    second = [first[0] + 0.1 * 0.5 / (1.25**0.5 + 0.5), first[1] + 0.1 * 0.25 / (0.75**0.5 + 0.5)]
    found = two_steps(FedYogi(learning_rate=0.1, first_decay=0.5, second_decay=0.75, adaptivity=0.5))
    assert found == [pytest.approx(first, rel=1e-14), pytest.approx(second, rel=1e-14)]


def test_fed_yogi_lets_its_second_moment_fall_by_the_squared_change():
    _, server = FedYogi(0.1, second_decay=0.75, adaptivity=2.0).step(vector(0.0), vector(1.0), {})
    assert server["second_moment"].tolist() == [4 - 0.25]


def test_fed_adagrad():
    # v = .25 + d^2 = (4.25, 1.25), then (4.25, 2.25). m = d.
    first = [1 + 0.1 * 2.0 / (4.25**0.5 + 0.5), 2 - 0.1 * 1.0 / (1.25**0.5 + 0.5)]
    second = [first[0], first[1] + 0.1 * 1.0 / (2.25**0.5 + 0.5)]
    found = two_steps(FedAdagrad(learning_rate=0.1, adaptivity=0.5))
    assert found == [pytest.approx(first, rel=1e-14), pytest.approx(second, rel=1e-14)]


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
def test_each_takes_its_rate_from_the_settings(name):
    federation = load_settings("network", {"server_learning_rate": 0.25, "server_optimizer": name}).federation
    slow, fast = (
        SERVER_OPTIMIZERS[name](federation.model_copy(update={"server_learning_rate": rate})) for rate in (0.25, 0.5)
    )
    moved = [optimizer.step(vector(0.0), vector(3.0), {})[0].item() for optimizer in (slow, fast)]
    assert moved[1] == pytest.approx(2 * moved[0])
