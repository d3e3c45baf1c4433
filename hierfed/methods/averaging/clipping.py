"""Gradients clipped row by row to a given L2 norm, up to float rounding.

See gradients.StackedGradient for the interface.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierfed.methods.averaging.gradients import PerceptronGradient, StackedGradient
from hierfed.methods.averaging.network import Network, Predictor
from hierfed.privacy.clipping import clip_factors, clip_rows


def clipped_gradient_of(
    predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int, clip_norm: float
) -> StackedGradient:
    """The fastest sum of clipped gradients for this predictor, from parameters into gradient; see gradient_of.

    The gradient of a row is that of its squared error, for a scale of 2. It is scaled by min(1, clip_norm / its norm).
    """
    if isinstance(predictor, Network):
        return ClippedPerceptronGradient(predictor, parameters, gradient, batch, clip_norm)
    return ClippedFunctionalGradient(predictor, parameters, gradient, clip_norm)


class ClippedPerceptronGradient(PerceptronGradient):
    """Clipped gradients of perceptrons.

    Norms come from the backward pass itself, so no row's gradient is ever written out.

    Let a be a linear layer's input and d the slope of its output. A row's gradient of the layer is the outer product of
    both. With the bias, its squared norm is (|a|^2 + 1) |d|^2 (Goodfellow, 2015, arXiv:1510.01799).
    """

    def __init__(self, network: Network, parameters: Tensor, gradient: Tensor, batch: int, clip_norm: float):
        super().__init__(network, parameters, gradient, batch)
        self.clip_norm = clip_norm

    def _backward(self, inputs: Tensor, top: Tensor) -> None:
        self._propagate()
        slopes = [*self.deltas, self.slope_column]
        squares = torch.zeros_like(self.slope)
        for entering, slope in zip((inputs, *self.activations), slopes, strict=True):
            squares.addcmul_(entering.square().sum(-1).add_(1), slope.square().sum(-1))
        factors = clip_factors(squares.sqrt_(), self.clip_norm)[:, :, None]
        for slope in slopes:
            slope.mul_(factors)
        self._collect(inputs, top)


class ClippedFunctionalGradient:
    """Clipped gradients by torch.func.vmap over nodes and rows, for any module that vmap can follow.

    Modules that draw random numbers raise RuntimeError.
    """

    def __init__(self, predictor: Predictor, parameters: Tensor, gradient: Tensor, clip_norm: float):
        self.parameters, self.gradient, self.clip_norm = parameters, gradient, clip_norm
        self.rule = torch.func.vmap(_row_gradients(predictor), randomness="error")

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Forward and backward pass of every row of every node; see StackedGradient."""
        gradients, error = self.rule(self.parameters, inputs, target, scale)
        torch.sum(clip_rows(gradients, self.clip_norm), 1, out=self.gradient)
        errors.copy_(error)


def row_gradients(predictor: Predictor, parameters: Tensor, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's gradient of its squared error, [rows, parameters], and its error, [rows], by autograd."""
    gradients, errors = _row_gradients(predictor)(parameters, inputs, target, torch.full_like(target, 2))
    return gradients, errors


def _row_gradients(predictor: Predictor):  # type: ignore[no-untyped-def]  # torch.func is untyped
    def loss(parameters: Tensor, row: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        error = predictor.predict_in_training(parameters, row[None], None)[0] - target
        return error.square() * scale / 2, error

    return torch.func.vmap(torch.func.grad(loss, has_aux=True), in_dims=(None, 0, 0, 0), randomness="error")
