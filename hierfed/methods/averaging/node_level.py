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
from hierfed.methods.averaging.training import LocalTraining, Streams, Trainer, turn_streams
from hierfed.randomness import generator

NodeLevel = Literal["none", "fine_tuning", "head", "head_first", "ditto", "bias"]


@dataclass(frozen=True)
class NodePersonalisation:
    """The personalisation of a node's network.

    how: `none`; `fine_tuning` of all parameters (the paper's); `head`, the output layer only; `head_first`, the output
    layer and then all (LP-FT, Kumar et al., ICLR 2022, arXiv:2202.10054); `ditto`, all parameters with a proximal pull
    to the global ones (Li et al., 2021); `bias`, one constant, the mean residual.
    training: the training of `fine_tuning`, `head`, `ditto` and each of the two of `head_first`.
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

    shared: the parameters to start from: the global ones, [parameters], or each node's, [nodes, parameters].
    """
    start = shared.expand(len(nodes), -1).clone()
    if settings.how == "none":
        return start
    if settings.how == "bias":
        rating = predictor.predict(shared, features).detach() if shared.ndim == 1 else None
        for row, node in enumerate(nodes):
            here = predictor.predict(shared[row], features).detach() if rating is None else rating
            learned = torch.from_numpy(settings.training.scale.learned(node.train.value))
            residual = learned - here[torch.from_numpy(node.train.item)]
            start[row, predictor.head.stop - 1] += residual.double().mean()
        return start
    training = settings.training
    if settings.how != "ditto":
        training = replace(training, proximal=0.0)
    turns = {"head": (predictor.head,), "head_first": (predictor.head, None)}.get(settings.how, (None,))
    for turn, only in enumerate(turns):
        streams, part = turn_streams(seed, 0, "personalisation", turn), replace(training, only=only)
        if settings.validation == 0:
            start = trainer(predictor, start, features, nodes, part, streams)[0]
        else:
            start = _early_stopped(predictor, trainer, start, features, nodes, part, streams, settings.validation)
    return start


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
