"""Peer: pfl-research (`pfl`), its PyTorchModel, FederatedAveraging and SimulatedBackend.

`local_optimizer_create` takes any torch optimiser, so each user gets a fresh Adam; the server applies the weighted mean
update by SGD of rate 1, which is plain averaging. pfl's in-memory dataset keeps its batches in the same order for ever,
so a subclass shuffles them anew each epoch through the hook pfl has for it, `iter`.
"""

import os
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np

os.environ["PFL_PYTORCH_DEVICE"] = "cpu"

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel
from plain_loop import build_model, predictor
from task import BATCH, EPOCHS, LEARNING_RATE, NODES, Predict, make_task, run_peer
from torch import nn


class Regressor(nn.Module):
    """The MLP with the two methods pfl asks of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = build_model()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Predict."""
        return self.layers(features)

    def loss(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error of a batch."""
        return nn.functional.mse_loss(self(features), targets)

    @torch.no_grad()
    def metrics(self, features: torch.Tensor, targets: torch.Tensor) -> dict[str, Weighted]:
        """Mean squared error, as a pfl metric."""
        return {"loss": Weighted.from_unweighted(self.loss(features, targets).item())}


class ShuffledDataset(PyTorchTensorDataset):
    """A user's rows, in a new order each time they are gone through."""

    def iter(self, batch_size: int | None) -> Iterator[list[torch.Tensor]]:
        """Yield shuffled batches of one epoch."""
        for rows in torch.randperm(len(self)).split(batch_size or len(self)):
            yield [tensor[rows] for tensor in self.raw_data]


def train(rounds: int) -> Predict:
    """Run the rounds in pfl's simulator."""
    np.random.seed(0)
    torch.manual_seed(0)
    users = [ShuffledDataset((x, y)) for x, y in zip(*map(torch.from_numpy, make_task()), strict=True)]
    data = FederatedDataset(users.__getitem__, get_user_sampler("minimize_reuse", range(NODES)))
    module = Regressor()
    model = PyTorchModel(
        module,
        local_optimizer_create=torch.optim.Adam,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    FederatedAveraging().run(
        # pfl always evaluates at iteration 0: with a frequency this high, only then.
        NNAlgorithmParams(
            central_num_iterations=rounds, evaluation_frequency=rounds, train_cohort_size=NODES, val_cohort_size=0
        ),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(local_num_epochs=EPOCHS, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH),
        NNEvalHyperParams(local_batch_size=None),
        send_metrics_to_platform=False,
    )
    return predictor(module)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_peer("pfl", version("pfl"), train)
