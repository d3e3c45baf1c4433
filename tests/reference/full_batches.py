"""A small network that nodes train on full batches of SGD in float64, so that a round can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation

NETWORK = Network(5, (4,))
LENGTHS, RATE, EPOCHS = (10, 31, 17), 0.05, 3
ROWS = sum(LENGTHS)


def full_batches(inputs: Tensor, **changes: Any) -> FederatedAveraging:
    """Federated averaging of full batches of SGD; changes are of its LocalTraining."""
    training = LocalTraining(
        **{"epochs": EPOCHS, "batch_size": 64, "learning_rate": RATE, "optimizer": "sgd"} | changes
    )
    nothing, users = NodePersonalisation("none", training), UserPersonalisation("none", 5.0, 10.0)
    return FederatedAveraging(NETWORK, train_stacked, inputs, training, nothing, users, False, 4)


def gradient(parameters: Tensor, inputs: Tensor, nodes: Sequence[Node]) -> Tensor:
    """The gradient of the mean squared error over these nodes' rows."""
    parameters = parameters.clone().requires_grad_(True)
    item = torch.cat([torch.from_numpy(node.train.item).long() for node in nodes])
    value = torch.cat([torch.from_numpy(node.train.value).double() for node in nodes])
    error = NETWORK.predict_in_training(parameters, inputs[item], None) - value
    (found,) = torch.autograd.grad(error.square().mean(), parameters)
    return found


def mean_over_rows(vectors: Sequence[Tensor]) -> Tensor:
    """The mean of the nodes' vectors, weighted by rows."""
    return torch.stack([rows / ROWS * vector for rows, vector in zip(LENGTHS, vectors, strict=True)]).sum(0)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to rounding in float64."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
