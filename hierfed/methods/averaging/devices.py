"""Training on a device with its own memory, such as a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.network import Predictor
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams, Trainer

# Nodes in a stack on a GPU: enough work for all its cores. The paper's networks of 4,096 nodes take 300 MB.
DEVICE_STACK = 4096


@dataclass(frozen=True)
class DeviceTrainer:
    """Trains on a device. Its inputs, its outputs and the nodes' rows lie in main memory. See training.Trainer.

    trainer: computes on the device of the parameters and the features.
    """

    trainer: Trainer
    device: torch.device

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
        """Train every node; see Trainer."""
        epoch_end: EpochEnd | None = None
        if on_epoch_end is not None:
            tell = on_epoch_end

            def epoch_end(row: int, epoch: int, parameters: Tensor) -> None:
                tell(row, epoch, parameters.cpu())

        there = start.to(self.device), features.to(self.device)
        trained, losses = self.trainer(predictor, *there, nodes, settings, streams, epoch_end)
        return trained.cpu(), losses
