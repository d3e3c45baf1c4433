"""Federated averaging with differential privacy of each rating (unit `example`) or of each node (unit `node`).

Neighbouring data sets differ in one unit, whose share of every sum may be zero instead. Public are: the catalogue, on
which alone the features must be fitted; the number of nodes; and under unit `example` the number of rows of each node,
which sets a row's chance to be in a batch and the node's weight. Training losses are not sent.
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
from hierfed.federated.checks import Check, counts
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
"""Maps a round and a node's number of rows to the noise multiplier of its releases. Raises if the budget is spent."""


class PrivateTrainer(Protocol):
    """Trains nodes by DP-SGD; see private_training."""

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
    """Federated averaging in which each node trains by DP-SGD.

    A node's contribution hides each of its rows, even from the server. Each local step takes the gradient

        [sum over a Poisson batch of g_i min(1, clip_norm / |g_i|) + N(0, (multiplier clip_norm)^2)] / expected rows.

    Source: DP-SGD (Abadi et al., CCS 2016, arXiv:1607.00133); see private_training.

    allow: called before a node's releases; gives the noise multiplier.
    streams: the nodes' own noise streams; None at a server, which contributes nothing.
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

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The rows. See SumMethod."""
        return (counts("rows"),)

    def train_loss(self, total: Contribution) -> list[float]:
        """Empty, since the loss would be a release of its own; see Method."""
        return []


@dataclass(frozen=True)
class NodePrivateAveraging(FederatedAveraging):
    """Federated averaging with clipped changes, equal weights of nodes, and noise in shares.

        global <- global + sum_k [clip(local_k - global, clip_norm) + N(0, (multiplier clip_norm)^2 / s)] / nodes

    Source: DP-FedAvg (McMahan et al., ICLR 2018, arXiv:1710.06963), with whole nodes for users and noise in shares.

    noise_nodes: s, the least number of nodes that add their share of the noise to any sum.
    allow, streams: see ExamplePrivateAveraging.
    """

    clip_norm: float
    noise_nodes: int
    allow: Allow
    streams: PrivateStreams | None

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """The clipped local - global plus a share of the noise, on a grid, and the count 1; see Method."""
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

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The node's count. See SumMethod."""
        return (counts("nodes"),)

    def train_loss(self, total: Contribution) -> list[float]:
        """Empty, since the loss would be a release of its own; see Method."""
        return []

    def swamped(self, nodes: int, noise_multiplier: float) -> float:
        """The expected norm of a round's noise, divided by the largest norm of the sum of `nodes` clipped changes."""
        count = int(occupied(self.predictor).sum())
        return noise_multiplier * math.sqrt(count * nodes / self.noise_nodes) / nodes


def _owned(streams: PrivateStreams | None) -> PrivateStreams:
    if streams is None:
        raise HierfedError("a node under differential privacy needs a secret for its noise, and was given none")
    return streams
