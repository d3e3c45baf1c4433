"""Computing on a device with a memory of its own, such as a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.network import Predictor
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams, Trainer

# Nodes in a stack on a GPU: a step must have work for all its cores, and 4,096 of the paper's networks take 300 MB.
DEVICE_STACK = 4096


@dataclass(frozen=True)
class DeviceTrainer:
    """Trains on a device; what it gets and gives lies in main memory, and so do the nodes' rows. See training.Trainer.

    trainer: computes where the parameters and the features lie.
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
