"""The fast trainer: all nodes as one model with a leading node axis.

It saves the overhead that dominates a loop over small networks. One call per layer serves all nodes. One fused Adam
call updates one flat buffer. For the paper's network the steps allocate and record nothing. `loop.py` is the reference
that it must equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, row_counts, taken
from hierfed.methods.averaging.gradients import MakeGradient, gradient_of
from hierfed.methods.averaging.network import Network, Predictor
from hierfed.methods.averaging.training import Batches, EpochEnd, LocalTraining, Streams, epoch_losses, make_batches
from hierfed.randomness import keep_masks

MASK_VALUES = 2**18


def train_stacked(
    predictor: Predictor,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: LocalTraining,
    streams: Streams,
    on_epoch_end: EpochEnd | None = None,
) -> tuple[Tensor, Tensor]:
    """Train the nodes side by side, on the device of `start` and `features`; see training.Trainer."""

    def plan(ordered: Sequence[Node]) -> tuple[Batches, MakeGradient]:
        return make_batches(ordered, settings, streams), settings.gradient or gradient_of

    return descend(predictor, start, features, nodes, settings, streams, plan, on_epoch_end)


def descend(
    predictor: Predictor,
    start: Tensor,
    features: Tensor,
    nodes: Sequence[Node],
    settings: LocalTraining,
    streams: Streams,
    plan: Callable[[Sequence[Node]], tuple[Batches, MakeGradient]],
    on_epoch_end: EpochEnd | None,
) -> tuple[Tensor, Tensor]:
    """Train the nodes side by side.

    Nodes are stacked by falling number of steps, so that the first rows are always those still at work. A finished node
    is left alone, and every node's Adam counts its own steps.

    plan: gives the batches and the gradients of a stack of nodes.
    """
    lengths = row_counts(nodes)
    order = np.argsort(-lengths, kind="stable")
    steps = -(-lengths[order] // settings.batch_size)
    twins = int(len(nodes) == 1 or steps[0] > steps[1])
    # BLAS takes another path for a stack of one, with other last digits. So the node with the most steps is never
    # alone in the stack: if need be a copy of itself joins it, and its result is the same as in any other stack.
    order = np.concatenate([order[:twins], order])
    ordered = taken(nodes, order)
    batches, gradient = plan(ordered)
    stack = _Stack(predictor, start[torch.from_numpy(order).to(start.device)], features, batches, settings, gradient)
    if settings.corrections:
        stack.correction = torch.stack([settings.corrections[node.number] for node in ordered]).to(start)
    total_steps = batches.steps_per_epoch * settings.epochs
    generators = [start.device] if start.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=generators):
        torch.manual_seed(int(streams.keys(ordered[:1], "modules' own draws")[0] >> np.uint64(1)))
        active = (total_steps[:, None] > np.arange(total_steps[0])[None, :]).sum(0).tolist()
        # A lone node and its copy have the same dropout factors, so these are drawn once.
        drawn = nodes if len(nodes) == 1 else ordered
        for step, keep in enumerate(_dropout_factors(predictor, drawn, batches, streams)):
            stack.step(step, active[step], None if keep is None else keep.to(start.device))
            if on_epoch_end is not None:
                ended = ((step + 1) % batches.steps_per_epoch == 0) & (total_steps > step)
                for row in np.flatnonzero(ended[twins:]) + twins:
                    on_epoch_end(int(order[row]), step // int(batches.steps_per_epoch[row]), stack.parameters[row])

    losses = epoch_losses(stack.errors.square().cpu(), batches, settings.epochs)
    back = torch.from_numpy(np.argsort(order[twins:]) + twins)
    return stack.parameters[back.to(start.device)], losses[back]


class _Stack:
    """Parameters and moments of all nodes, and one training step on the first rows of them."""

    def __init__(
        self,
        predictor: Predictor,
        start: Tensor,
        features: Tensor,
        batches: Batches,
        settings: LocalTraining,
        make_gradient: MakeGradient,
    ):
        self.predictor, self.features, self.settings, self.make_gradient = predictor, features, settings, make_gradient
        self.start, self.parameters = start, start.clone()
        self.gradient = torch.zeros_like(start)
        self.moments = (torch.zeros_like(start), torch.zeros_like(start))
        self.steps_done = torch.zeros((), device=start.device)
        self.errors = start.new_zeros(batches.item.shape)
        self.batch = batches.item.shape[2]
        parts = (batches.item.to(start.device), batches.target.to(start), batches.scale.to(start), self.errors)
        self.by_step = list(zip(*(part.unbind(0) for part in parts), strict=True))
        self.active = 0
        self.correction: Tensor | None = None
        self.trained = torch.ones(start.shape[1], device=start.device)
        if settings.only is not None:
            self.trained.zero_()[settings.only] = 1

    def step(self, number: int, active: int, keep: Tensor | None) -> None:
        """One step of the optimizer of each of the first `active` nodes on its own batch of this number."""
        item, target, scale, errors = self.by_step[number]
        if active < len(item):
            item, target, scale, errors = item[:active], target[:active], scale[:active], errors[:active]
            keep = None if keep is None else keep[:active]
        if active != self.active:
            self._resize(active)
        torch.index_select(self.features, 0, item.view(-1), out=self.gathered)
        self.compute(self.inputs, target, scale, keep, errors)
        if self.settings.proximal:
            self.row_gradients.add_(self.rows - self.start[:active], alpha=self.settings.proximal)
        if self.correction is not None:
            self.row_gradients.add_(self.correction[:active])
        if self.settings.only is not None:
            self.row_gradients.mul_(self.trained)
        if self.settings.optimizer == "sgd":
            self.rows.add_(self.row_gradients, alpha=-self.settings.learning_rate)
            return
        self.steps_done += 1
        # torch.optim.Adam makes this same call, after 100 us a step of bookkeeping.
        torch._fused_adam_(
            [self.rows],
            [self.row_gradients],
            [self.row_moments[0]],
            [self.row_moments[1]],
            [],
            [self.steps_done],
            lr=self.settings.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def _resize(self, active: int) -> None:
        """Restrict work to the first `active` rows, once the other nodes have finished."""
        self.active = active
        self.rows, self.row_gradients = self.parameters[:active], self.gradient[:active]
        self.row_moments = (self.moments[0][:active], self.moments[1][:active])
        self.gathered = self.features.new_empty(active * self.batch, self.features.shape[1])
        self.inputs = self.gathered.view(active, self.batch, -1)
        self.compute = self.make_gradient(self.predictor, self.rows, self.row_gradients, self.batch)


def _dropout_factors(
    predictor: Predictor, nodes: Sequence[Node], batches: Batches, streams: Streams
) -> Iterator[Tensor | None]:
    """The dropout factors of each step in turn, [nodes, batch, units]: 0 or 1 / (1 - dropout); None without dropout.

    Several steps are drawn at a time, but only so many that the work space stays small.
    """
    steps, _, batch = batches.item.shape
    if not isinstance(predictor, Network) or not predictor.mask_units:
        yield from [None] * steps
        return
    keys = streams.keys(nodes, "dropout")
    per_step = batch * predictor.mask_units
    block = max(1, MASK_VALUES // (per_step * len(nodes)))
    factor = np.float32(1 / (1 - predictor.dropout))
    for first in range(0, steps, block):
        count = min(block, steps - first)
        keep = keep_masks(keys, count * per_step, predictor.dropout, first * per_step)
        factors = torch.from_numpy(np.multiply(keep, factor, dtype=np.float32))
        yield from factors.view(len(nodes), count, batch, predictor.mask_units).unbind(1)
