"""Local training of many nodes: its settings, its random streams, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, numbers_of, train_rows
from hierfed.methods.averaging.gradients import MakeGradient
from hierfed.methods.averaging.network import Predictor, aligned
from hierfed.models.scale import UNCHANGED, RatingScale
from hierfed.randomness import permutations, stream_keys

EpochEnd = Callable[[int, int, Tensor], None]


@dataclass(frozen=True)
class LocalTraining:
    """A node's training on the mean squared error of its shuffled rows.

    proximal: strength of the proximal term of FedProx (Li et al., 2020) and Ditto (Li et al., 2021), which adds
    proximal * (parameters - start) to the gradient.
    only: the part of the parameter vector that is trained; None for all of it.
    scale: the rating scale that the network learns on; losses are on it too.
    optimizer: `adam`, a fresh one in each training (Kingma and Ba, 2015), or `sgd`, which has no state.
    corrections: added to each gradient of the node of this number, [parameters], 0 where no weight lies; empty for
    none.
    gradient: makes the gradients, where they are not the loss's own; see own_gradients. A row of the parameters may
    then hold more than one model. None for the loss's own.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    proximal: float = 0.0
    only: slice | None = None
    scale: RatingScale = UNCHANGED
    optimizer: str = "adam"
    corrections: Mapping[int, Tensor] = field(default_factory=dict, compare=False)
    gradient: MakeGradient | None = field(default=None, compare=False)

    def steps(self, rows: int) -> int:
        """The number of steps of a node with so many rows."""
        return self.epochs * -(-rows // self.batch_size)


@dataclass(frozen=True)
class Streams:
    """The random streams of a training, one per (seed, round, node, purpose)."""

    seed: int
    round_number: int
    purpose: str

    def keys(self, nodes: Sequence[Node], what: str) -> np.ndarray:
        """One key per node for one use of randomness, uint64 [nodes]."""
        return stream_keys(self.seed, self.round_number, numbers_of(nodes), f"{self.purpose}: {what}")


def turn_streams(seed: int, round_number: int, purpose: str, turn: int) -> Streams:
    """The random streams of one of the trainings that follow one another in a round, from 0."""
    return Streams(seed, round_number, f"{purpose}, turn {turn + 1}" if turn else purpose)


class Trainer(Protocol):
    """Trains nodes side by side, each on its own rows; nodes do not influence each other.

    Gives the trained parameters [nodes, parameters] and each node's mean training loss per epoch, float64 [nodes,
    epochs].

    start: [nodes, parameters].
    features: [items, features], public.
    on_epoch_end: called when a node ends an epoch, with the node's row, the epoch (from 0) and the node's parameters,
    which it must not change; None for no call.
    """

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
        ...


@dataclass(frozen=True)
class Batches:
    """All batches of all nodes, ready to index: node k's batch at step s is row [s, k].

    item: int64 [steps, nodes, batch].
    target: float32 [steps, nodes, batch].
    scale: float64 [steps, nodes, batch]: 2 / (rows in the batch) for the MSE's gradient, 2 for that of the sum of
    squares, and 0 at the padding of a short batch.
    steps_per_epoch: int [nodes].
    """

    item: Tensor
    target: Tensor
    scale: Tensor
    steps_per_epoch: np.ndarray


def make_batches(nodes: Sequence[Node], settings: LocalTraining, streams: Streams) -> Batches:
    """Shuffle each node's rows anew for each epoch and cut them into batches; the last batch of an epoch may be short.

    The batch axis is padded to a multiple of 16, so that each node's part of any work space is aligned: see Network.
    """
    ends, train = train_rows(nodes)
    lengths = np.diff(ends)
    batch, epochs = settings.batch_size, settings.epochs
    steps_per_epoch = -(-lengths // batch)
    most = int(steps_per_epoch.max())
    item = np.zeros((len(nodes), int(lengths.max())), np.int64)
    target = np.zeros(item.shape, np.float32)
    held = np.arange(item.shape[1])[None, :] < lengths[:, None]
    item[held], target[held] = train.item, settings.scale.learned(train.value.astype(np.float64))

    position = np.arange(most * batch)
    filled = position[None, :] < lengths[:, None]
    in_batch = np.clip(lengths[:, None] - (position // batch * batch)[None, :], 1, batch)
    epoch_scale = np.where(filled, 2 / in_batch, 0.0)

    shape = (len(nodes), most * epochs, aligned(batch))
    items, targets, scales = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape)
    for epoch in range(epochs):
        order = permutations(streams.keys(nodes, f"shuffle {epoch}"), lengths)
        padded = np.pad(order, ((0, 0), (0, most * batch - order.shape[1])))
        for steps in np.unique(steps_per_epoch):
            rows = np.flatnonzero(steps_per_epoch == steps)
            chosen, here = padded[rows, : steps * batch], (len(rows), steps, batch)
            place = (rows, slice(epoch * steps, (epoch + 1) * steps), slice(batch))
            items[place] = np.take_along_axis(item[rows], chosen, 1).reshape(here)
            targets[place] = np.take_along_axis(target[rows], chosen, 1).reshape(here)
            scales[place] = epoch_scale[rows, : steps * batch].reshape(here)
    return Batches(_by_step(items), _by_step(targets), _by_step(scales), steps_per_epoch)


def epoch_losses(squared_errors: Tensor, batches: Batches, epochs: int) -> Tensor:
    """Mean squared error of each node in each epoch, float64 [nodes, epochs].

    The mean is over the rows of the epoch's batches; NaN if they hold no row.

    squared_errors: [steps, nodes, batch].
    """
    filled = batches.scale > 0
    sums, rows = (squared_errors.double() * filled).sum(-1).numpy(), filled.sum(-1).numpy()

    losses = np.empty((len(batches.steps_per_epoch), epochs))
    for steps in np.unique(batches.steps_per_epoch):
        nodes = np.flatnonzero(batches.steps_per_epoch == steps)
        shape = len(nodes), epochs, steps
        errors, counts = (each[: steps * epochs, nodes].T.reshape(shape).sum(2) for each in (sums, rows))
        with np.errstate(invalid="ignore"):
            losses[nodes] = errors / counts
    return torch.from_numpy(losses)


def _by_step(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))
