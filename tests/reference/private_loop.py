"""The reference of DP-SGD: a plain loop over nodes, with autograd's gradient of each row and torch.optim.Adam."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.clipping import row_gradients
from hierfed.methods.averaging.network import Predictor, occupied
from hierfed.methods.averaging.private_training import ExampleProtection, StackedNoise, poisson_batches
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams, epoch_losses
from hierfed.privacy.clipping import clip_rows


def train_privately_in_a_loop(
    protection: ExampleProtection,
    predictor: Predictor,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: LocalTraining,
    streams: Streams,
    on_epoch_end: EpochEnd | None = None,
) -> tuple[Tensor, Tensor]:
    """Train one node after the other by DP-SGD; see private_training.train_privately."""
    trained, losses = start.clone(), []
    for number, node in enumerate(nodes):
        parameters = start[number].clone()
        optimizer = torch.optim.Adam([parameters], lr=settings.learning_rate)
        batches = poisson_batches([node], settings, protection, streams.round_number)
        noise = StackedNoise([node], protection, streams.round_number, occupied(predictor))
        errors = start.new_zeros(batches.item.shape)
        targets = batches.target.to(start.dtype)
        for step in range(len(batches.item)):
            filled = batches.scale[step, 0] > 0
            gradient = noise.draw(1)[0].to(start.dtype)
            if filled.any():
                inputs, target = features[batches.item[step, 0]][filled], targets[step, 0][filled]
                each, errors[step, 0, filled] = row_gradients(predictor, parameters, inputs, target)
                gradient += clip_rows(each, protection.clip_norm).sum(0)
            parameters.grad = gradient / min(settings.batch_size, len(node.train))
            if settings.proximal:
                parameters.grad += settings.proximal * (parameters - start[number])
            if settings.only is not None:
                parameters.grad[: settings.only.start] = 0
                parameters.grad[settings.only.stop :] = 0
            optimizer.step()
            if on_epoch_end is not None and (step + 1) % int(batches.steps_per_epoch[0]) == 0:
                on_epoch_end(number, step // int(batches.steps_per_epoch[0]), parameters)
        trained[number] = parameters
        losses.append(epoch_losses(errors.square(), batches, settings.epochs))
    return trained, torch.cat(losses)
