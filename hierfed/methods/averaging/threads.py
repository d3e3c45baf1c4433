"""Training on several threads: each thread trains one stack of nodes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, row_counts, taken
from hierfed.methods.averaging.network import Network, Predictor
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams, Trainer
from hierfed.models.threads import in_order

# Most nodes in a stack on a CPU. The parameters and moments of more would leave a core's cache.
STACK = 64


@dataclass(frozen=True)
class ThreadedTrainer:
    """A trainer that spreads stacks of nodes with similar numbers of rows over several threads; see training.Trainer.

    A node's numbers depend neither on its stack nor on the number of threads. Modules that draw from torch's own
    generator, which all threads share, are trained on one thread, in one stack.
    """

    trainer: Trainer
    threads: int
    stack: int = STACK

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
        stacks = stacks_of(row_counts(nodes), self.threads, self.stack)
        if len(stacks) == 1 or not isinstance(predictor, Network):
            return self.trainer(predictor, start, features, nodes, settings, streams, on_epoch_end)

        def train(places: np.ndarray) -> tuple[Tensor, Tensor]:
            epoch_end: EpochEnd | None = None
            if on_epoch_end is not None:
                tell = on_epoch_end

                def epoch_end(row: int, epoch: int, parameters: Tensor) -> None:
                    tell(int(places[row]), epoch, parameters)

            here = start[torch.from_numpy(places)]
            return self.trainer(predictor, here, features, taken(nodes, places), settings, streams, epoch_end)

        trained, losses = torch.empty_like(start), torch.empty(len(nodes), settings.epochs, dtype=torch.float64)
        for places, part in zip(stacks, in_order(train, stacks, self.threads), strict=True):
            trained[torch.from_numpy(places)], losses[torch.from_numpy(places)] = part
        return trained, losses


def stacks_of(rows: np.ndarray, threads: int = 1, most: int = STACK) -> list[np.ndarray]:
    """The places of the nodes in each stack: nodes with similar numbers of rows, the largest first.

    most: the most nodes in a stack.
    threads: the least number of stacks, if there are nodes enough.
    """
    order = np.argsort(-rows, kind="stable")
    if len(rows) > threads * most:
        return [order[first : first + most] for first in range(0, len(rows), most)]
    # With few nodes, each thread gets about the same number of rows.
    middle = np.cumsum(rows[order]) - rows[order] / 2
    thread = np.minimum(middle * threads // max(rows.sum(), 1), threads - 1)
    return np.split(order, np.flatnonzero(np.diff(thread)) + 1)
