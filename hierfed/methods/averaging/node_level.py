"""Personalisation of a node: its own version of the global network, fitted on its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.splits import hold_out
from hierfed.methods.averaging.network import Predictor
from hierfed.methods.averaging.training import LocalTraining, Streams, Trainer
from hierfed.randomness import generator

NodeLevel = Literal["none", "fine_tuning", "head", "ditto", "bias"]


@dataclass(frozen=True)
class NodePersonalisation:
    """The personalisation of a node's network.

    how: `none`; `fine_tuning` of all parameters (the paper's); `head`, the output layer only; `ditto`, all parameters
    with a proximal pull to the global ones (Li et al., 2021); `bias`, one constant, the mean residual.
    training: the training of `fine_tuning`, `head` and `ditto`.
    validation: share of the train rows held back to choose the epoch; 0 for no early stopping. The global model is a
    candidate too, as epoch 0.
    """

    how: NodeLevel
    training: LocalTraining
    validation: float = 0.0


def personalise_nodes(
    predictor: Predictor,
    trainer: Trainer,
    shared: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: NodePersonalisation,
    seed: int,
) -> Tensor:
    """Each node's parameters, [nodes, parameters].

    shared: the global parameters, [parameters].
    """
    start = shared.expand(len(nodes), -1).clone()
    if settings.how == "none":
        return start
    if settings.how == "bias":
        rating = predictor.predict(shared, features).detach()
        for row, node in enumerate(nodes):
            learned = torch.from_numpy(settings.training.scale.learned(node.train.value))
            residual = learned - rating[torch.from_numpy(node.train.item)]
            start[row, predictor.head.stop - 1] += residual.double().mean()
        return start
    training = settings.training
    if settings.how == "head":
        training = replace(training, only=predictor.head)
    if settings.how != "ditto":
        training = replace(training, proximal=0.0)
    streams = Streams(seed, 0, "personalisation")
    if settings.validation == 0:
        return trainer(predictor, start, features, nodes, training, streams)[0]
    return _early_stopped(predictor, trainer, start, features, nodes, training, streams, settings.validation)


def _early_stopped(
    predictor: Predictor,
    trainer: Trainer,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    training: LocalTraining,
    streams: Streams,
    validation: float,
) -> Tensor:
    """Each node's parameters after its best epoch.

    Errors are on validation rows of its own that it did not train on.
    """
    fitting, checks = [], []
    for node in nodes:
        rng = generator(streams.seed, 0, node.number, "early stopping")
        kept, held = hold_out(np.arange(len(node.train)), validation, rng)
        if len(kept) == 0 or len(held) == 0:
            kept, held = np.arange(len(node.train)), np.arange(0)
        fitting.append(replace(node, train=node.train.take(kept)))
        checks.append(node.train.take(held))
    best = start.clone()

    def error(row: int, parameters: Tensor) -> float:
        rating = predictor.predict(parameters, features[torch.from_numpy(checks[row].item).long()])
        return float((rating.detach() - torch.from_numpy(training.scale.learned(checks[row].value))).square().sum())

    lowest = [error(row, start[row]) for row in range(len(nodes))]

    def keep_if_best(row: int, epoch: int, parameters: Tensor) -> None:
        found = error(row, parameters)
        if found < lowest[row]:
            lowest[row] = found
            best[row] = parameters

    trainer(predictor, start, features, fitting, training, streams, keep_if_best)
    return best
