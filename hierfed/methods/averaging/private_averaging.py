"""Federated averaging whose shared model hides each rating (unit `example`) or each node (unit `node`).

A unit is hidden in the sense that its share of every sum may be nothing instead. Taken as known to everyone are: the
catalogue, on which alone the features must be fitted; how many nodes there are; and under unit `example` how many rows
each has, which sets the chance of a row to be in a batch and the node's weight. Training losses are not sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Predictor, occupied
from hierfed.methods.averaging.private_training import ExampleProtection
from hierfed.methods.averaging.threads import ThreadedTrainer
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams
from hierfed.privacy.clipping import clip_rows
from hierfed.privacy.discrete_gaussian import discrete_gaussian, grid_of, on_grid
from hierfed.private_randomness import PrivateStreams

Allow = Callable[[int, int], float]
"""From a round and a node's rows, the noise multiplier of its releases; raises an error where the budget is spent."""


class PrivateTrainer(Protocol):
    """Trains nodes by DP-SGD; see models.private_training."""

    def __call__(
        self,
        protection: ExampleProtection,
        predictor: Predictor,
        start: Tensor,
        features: Tensor,
        nodes: Sequence[Node],
        settings: LocalTraining,
        streams: Streams,
        on_epoch_end: EpochEnd | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train every node under this protection; see training.Trainer."""
        ...


@dataclass(frozen=True)
class ExamplePrivateAveraging(FederatedAveraging):
    """Each node trains by DP-SGD, so that what it sends hides each of its rows, from the server too.

    allow: asked before a node's releases are made. streams: the nodes' own; None at a server, which contributes
    nothing, and never those of another node.
    """

    private_trainer: PrivateTrainer
    threads: int
    clip_norm: float
    allow: Allow
    streams: PrivateStreams | None

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """n (local - global) and n, a node's rows; see Method."""
        streams = _owned(self.streams)
        noise = {node.number: self.allow(shared.round + 1, len(node.train)) for node in nodes}
        protection = ExampleProtection(self.clip_norm, noise, streams)
        trainer = ThreadedTrainer(partial(self.private_trainer, protection), self.threads)
        for node, (change, _) in zip(nodes, self.local_changes(shared, nodes, trainer), strict=True):
            rows = torch.tensor([len(node.train)], dtype=torch.float64)
            yield Contribution({"change": rows * change, "rows": rows}), None

    def train_loss(self, total: Contribution) -> list[float]:
        """None: it would be a release of its own; see Method."""
        return []


@dataclass(frozen=True)
class NodePrivateAveraging(FederatedAveraging):
    """Nodes clip their whole change and count alike; each adds a share of the noise, and the sum carries all of it.

    noise_nodes: how many nodes add their share at least, in any sum. For the others see ExamplePrivateAveraging.
    Source: DP-FedAvg (McMahan et al., ICLR 2018, arXiv:1710.06963), with whole nodes for users and noise in shares.
    """

    clip_norm: float
    noise_nodes: int
    allow: Allow
    streams: PrivateStreams | None

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """The clipped local - global with a share of noise, on the grid, and 1; see Method."""
        streams, number = _owned(self.streams), shared.round + 1
        shares = [self.allow(number, len(node.train)) * self.clip_norm / math.sqrt(self.noise_nodes) for node in nodes]
        places = occupied(self.predictor)
        changes = self.local_changes(shared, nodes, self.trainer)
        for node, (change, _), share in zip(nodes, changes, shares, strict=True):
            grid = grid_of(share)
            sent = on_grid(clip_rows(change, self.clip_norm), grid)
            stream = streams.stream(number, node.number, "noise")
            sent[places] += discrete_gaussian(stream, share, grid, int(places.sum()))
            yield Contribution({"change": sent, "nodes": torch.ones(1, dtype=torch.float64)}), None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """global + the mean over nodes of their changes; see Method."""
        parameters = shared.arrays["parameters"].double()
        moved = parameters + total.arrays["change"] / total.arrays["nodes"]
        return SharedModel({"parameters": moved.to(self.features.dtype)}, shared.round + 1)

    def train_loss(self, total: Contribution) -> list[float]:
        """None: it would be a release of its own; see Method."""
        return []

    def swamped(self, nodes: int, noise_multiplier: float) -> float:
        """The expected norm of a round's noise over that of the largest change that so many nodes can make together."""
        count = int(occupied(self.predictor).sum())
        return noise_multiplier * math.sqrt(count * nodes / self.noise_nodes) / nodes


def _owned(streams: PrivateStreams | None) -> PrivateStreams:
    if streams is None:
        raise HierfedError("a node under differential privacy needs a secret for its noise, and was given none")
    return streams
