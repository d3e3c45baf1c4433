"""DP-SGD (Abadi et al., CCS 2016, arXiv:1607.00133): training in which noise hides each single row.

Each step draws a Poisson batch (each row with the same probability, independently), clips each row's gradient, adds
Gaussian noise to the sum, and divides by the expected number of rows. All later operations (Adam, a proximal term) see
the noisy gradient alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.clipping import clipped_gradient_of
from hierfed.methods.averaging.gradients import MakeGradient, StackedGradient
from hierfed.methods.averaging.network import Predictor, aligned, occupied
from hierfed.methods.averaging.stacked import descend
from hierfed.methods.averaging.training import Batches, EpochEnd, LocalTraining, Streams
from hierfed.private_randomness import PrivateStream, PrivateStreams

SAMPLE, NOISE = "batches", "noise"


@dataclass(frozen=True)
class ExampleProtection:
    """The protection of each row.

    clip_norm: the largest L2 norm of a row's gradient.
    noise_multipliers: by node number, the noise's standard deviation per coordinate divided by clip_norm.
    streams: the nodes' noise streams.
    """

    clip_norm: float
    noise_multipliers: Mapping[int, float]
    streams: PrivateStreams

    def deviation(self, node: Node) -> float:
        """The noise's standard deviation in a node's sums."""
        return self.noise_multipliers[node.number] * self.clip_norm

    def stream(self, node: Node, round_number: int, purpose: str) -> PrivateStream:
        """The node's private stream for one purpose in one round."""
        return self.streams.stream(round_number, node.number, purpose)


def sampling_rate(rows: int, batch_size: int) -> float:
    """The chance of each row to be in a batch; 1 if a node has no more rows than a batch."""
    return min(1.0, batch_size / rows)


def steps_of_an_epoch(rows: int, batch_size: int) -> int:
    """The number of steps in an epoch: as many as batches of this size hold all rows."""
    return -(-rows // batch_size)


def train_privately(
    protection: ExampleProtection,
    predictor: Predictor,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: LocalTraining,
    streams: Streams,
    on_epoch_end: EpochEnd | None = None,
) -> tuple[Tensor, Tensor]:
    """Train the nodes side by side by DP-SGD; see training.Trainer. The losses are not protected."""

    def plan(ordered: Sequence[Node]) -> tuple[Batches, MakeGradient]:
        batches = poisson_batches(ordered, settings, protection, streams.round_number)
        noise = StackedNoise(ordered, protection, streams.round_number, occupied(predictor))
        expected = torch.tensor([min(settings.batch_size, len(node.train)) for node in ordered], dtype=start.dtype)

        def make_gradient(predictor: Predictor, rows: Tensor, gradients: Tensor, batch: int) -> StackedGradient:
            clipped = clipped_gradient_of(predictor, rows, gradients, batch, protection.clip_norm)

            def noisy(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
                clipped(inputs, target, scale, keep, errors)
                gradients.add_(noise.draw(len(gradients))).div_(expected[: len(gradients), None])

            return noisy

        return batches, make_gradient

    return descend(predictor, start, features, nodes, settings, streams, plan, on_epoch_end)


class StackedNoise:
    """The noise of a stack's nodes, step by step, each from its own stream.

    places: bool [parameters], True for the coordinates that get noise.
    """

    def __init__(self, nodes: Sequence[Node], protection: ExampleProtection, round_number: int, places: Tensor):
        self._streams = [protection.stream(node, round_number, NOISE) for node in nodes]
        self._deviations = np.array([protection.deviation(node) for node in nodes])[:, None]
        self._places = places.double()

    def draw(self, active: int) -> Tensor:
        """The noise of the next step of each of the first `active` nodes: float64 [active, parameters]."""
        count = len(self._places)
        drawn = np.stack([stream.normal(count) for stream in self._streams[:active]])
        return torch.from_numpy(drawn * self._deviations[:active]) * self._places


def poisson_batches(
    nodes: Sequence[Node], settings: LocalTraining, protection: ExampleProtection, round_number: int
) -> Batches:
    """Poisson batches: in each step, each row of a node is drawn anew with probability batch_size / rows.

    An epoch has as many steps as in make_batches. The batch axis has the same length for every node and in any stack.
    It grows only for a batch of more than six deviations above the expected size.
    """
    samples = []
    for node in nodes:
        rows, stream = len(node.train), protection.stream(node, round_number, SAMPLE)
        steps = steps_of_an_epoch(rows, settings.batch_size)
        rate = sampling_rate(rows, settings.batch_size)
        samples.append((steps, *poisson_sample(stream, rows, rate, steps * settings.epochs)))
    sizes = [np.bincount(step, minlength=steps * settings.epochs) for steps, step, _ in samples]
    usual = settings.batch_size + math.ceil(6 * math.sqrt(settings.batch_size)) + 16
    width = aligned(max(usual, *(int(size.max()) for size in sizes)))
    shape = (max(map(len, sizes)), len(nodes), width)
    item, target, scale = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape)
    for number, (node, (_, step, row), size) in enumerate(zip(nodes, samples, sizes, strict=True)):
        place = np.arange(len(step)) - np.repeat(np.cumsum(size) - size, size)
        item[step, number, place] = node.train.item[row]
        target[step, number, place] = settings.scale.learned(node.train.value[row].astype(np.float64))
        scale[step, number, place] = 2.0
    steps_per_epoch = np.array([steps for steps, _, _ in samples])
    return Batches(torch.from_numpy(item), torch.from_numpy(target), torch.from_numpy(scale), steps_per_epoch)


def poisson_sample(stream: PrivateStream, rows: int, rate: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the batch of each step: the steps, ascending, and the rows, ascending within a step.

    The rows of all steps form one long sequence, in which the distances between drawn places are geometric.
    """
    places = steps * rows
    if rate >= 1:
        chosen = np.arange(places)
    else:
        gaps, last = [np.empty(0, np.int64)], -1
        while last < places:
            wanted = (places - last) * rate
            drawn = stream.uniform(math.ceil(wanted + 3 * math.sqrt(wanted)) + 1)
            gap = 1 + np.floor(np.log(drawn) / math.log1p(-rate)).astype(np.int64)
            gaps.append(last + np.cumsum(gap))
            last = int(gaps[-1][-1])
        chosen = np.concatenate(gaps)
        chosen = chosen[chosen < places]
    return chosen // rows, chosen % rows
