"""The reference trainer: a plain loop over nodes, with autograd and torch.optim.Adam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.methods.averaging.network import Network, Predictor
from hierfed.methods.averaging.training import EpochEnd, LocalTraining, Streams, epoch_losses, make_batches
from hierfed.randomness import keep_masks


def train_loop(
    predictor: Predictor,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: LocalTraining,
    streams: Streams,
    on_epoch_end: EpochEnd | None = None,
) -> tuple[Tensor, Tensor]:
    """Train one node after the other with autograd and torch.optim.Adam; see training.Trainer."""
    trained, losses = start.clone(), []
    for row, node in enumerate(nodes):
        parameters = start[row].clone().requires_grad_(True)
        make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[settings.optimizer]
        optimizer = make([parameters], lr=settings.learning_rate)
        batches = make_batches([node], settings, streams)
        keep_key = streams.keys([node], "dropout")
        errors = start.new_zeros(batches.item.shape)
        targets = batches.target.to(start.dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(keep_key[0] >> np.uint64(1)))
            for step in range(len(batches.item)):
                filled = batches.scale[step, 0] > 0
                inputs, target = features[batches.item[step, 0]][filled], targets[step, 0][filled]
                prediction = predictor.predict_in_training(parameters, inputs, _keep(predictor, keep_key, step, filled))
                (parameters.grad,) = torch.autograd.grad(torch.nn.functional.mse_loss(prediction, target), parameters)
                if settings.proximal:
                    parameters.grad += settings.proximal * (parameters.detach() - start[row])
                if settings.corrections:
                    parameters.grad += settings.corrections[node.number]
                if settings.only is not None:
                    parameters.grad[: settings.only.start] = 0
                    parameters.grad[settings.only.stop :] = 0
                optimizer.step()
                errors[step, 0, filled] = prediction.detach() - target
                if on_epoch_end is not None and (step + 1) % int(batches.steps_per_epoch[0]) == 0:
                    on_epoch_end(row, step // int(batches.steps_per_epoch[0]), parameters.detach())
        trained[row] = parameters.detach()
        losses.append(epoch_losses(errors.square(), batches, settings.epochs))
    return trained, torch.cat(losses)


def _keep(predictor: Predictor, key: np.ndarray, step: int, filled: Tensor) -> Tensor | None:
    if not isinstance(predictor, Network) or not predictor.mask_units:
        return None
    count = len(filled) * predictor.mask_units
    keep = keep_masks(key, count, predictor.dropout, step * count)
    return torch.from_numpy(keep).view(len(filled), predictor.mask_units)[filled]
