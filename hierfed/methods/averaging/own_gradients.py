"""Gradients of a shared model and of nodes' own models side by side: the halves of one matrix [nodes, 2 parameters].

A row of it is (x, v): the node's copy of the shared model, and its own model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierfed.methods.averaging.gradients import MakeGradient, StackedGradient, gradient_of
from hierfed.methods.averaging.network import Predictor


def of_mixtures(alpha: float) -> MakeGradient:
    """APFL's: g_x = f'(x) and g_v = alpha f'(alpha v + (1 - alpha) x); errors are those of x."""

    def make(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
        (x, v), (x_gradient, v_gradient) = parameters.chunk(2, 1), gradient.chunk(2, 1)
        mixed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        shared = gradient_of(predictor, x, x_gradient, batch)
        own = gradient_of(predictor, mixed, v_gradient, batch)

        def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
            torch.lerp(x, v, alpha, out=mixed)
            own(inputs, target, scale, keep, errors)
            v_gradient.mul_(alpha)
            shared(inputs, target, scale, keep, errors)

        return compute

    return make


def of_envelopes(strength: float, rate: float, steps: int) -> MakeGradient:
    """pFedMe's: g_x = strength (x - v), where v takes steps towards argmin f(v) + strength / 2 |v - x|^2.

    Each step is implicit in the second term, v = (v - rate f'(v) + rate strength x) / (1 + rate strength), so that it
    is stable for any strength. g_v = 0: the steps are done here. Errors are those of v.
    """

    def make(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
        (x, v), (x_gradient, v_gradient) = parameters.chunk(2, 1), gradient.chunk(2, 1)
        own = gradient_of(predictor, v, v_gradient, batch)

        def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
            for _ in range(steps):
                own(inputs, target, scale, keep, errors)
                v.add_(v_gradient, alpha=-rate).add_(x, alpha=rate * strength).div_(1 + rate * strength)
            torch.sub(x, v, out=x_gradient).mul_(strength)
            v_gradient.zero_()

        return compute

    return make


def after_a_step(rate: float) -> MakeGradient:
    """Per-FedAvg's of first order: f'(x - rate f'(x)), both on the same batch. Its matrix is [nodes, parameters]."""

    def make(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
        moved = torch.empty_like(parameters)
        before = gradient_of(predictor, parameters, gradient, batch)
        after = gradient_of(predictor, moved, gradient, batch)

        def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
            before(inputs, target, scale, keep, errors)
            torch.sub(parameters, gradient, alpha=rate, out=moved)
            after(inputs, target, scale, keep, errors)

        return compute

    return make


def of_weights(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
    """FedALA's: of f(v + weights (x - v)) by the weights, which stay within 0 and 1.

    A row of the matrix is (weights, v, x - v), and only the weights have a gradient. A MakeGradient.
    """
    weights, v, difference = parameters.chunk(3, 1)
    mixed = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    # Numbers between the layers belong to none, and nothing writes them.
    slopes = torch.zeros_like(mixed)
    own = gradient_of(predictor, mixed, slopes, batch)

    def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        torch.addcmul(v, weights.clamp_(0, 1), difference, out=mixed)
        own(inputs, target, scale, keep, errors)
        gradient.zero_()
        torch.mul(slopes, difference, out=gradient[:, : slopes.shape[1]])

    return compute
