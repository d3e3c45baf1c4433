"""Gradients of many nodes' losses at once, one row of a matrix [nodes, parameters] per node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hierfed.methods.averaging.network import Network, Predictor


class StackedGradient(Protocol):
    """Writes the gradients of a stack of nodes into a given matrix.

    inputs: [nodes, batch, features].
    target, scale: [nodes, batch]; scale is 2 / rows, and 0 at padding.
    keep: dropout factors [nodes, batch, units], or None.
    errors: [nodes, batch]; receives prediction - target.
    """

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Compute all gradients; see StackedGradient."""
        ...


# Makes the gradient from parameters and gradients, both [nodes, parameters], for batches of so many rows.
MakeGradient = Callable[[Predictor, Tensor, Tensor, int], StackedGradient]


def gradient_of(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
    """The fastest gradient for this predictor, from parameters into gradient, both [nodes, parameters]."""
    if isinstance(predictor, Network):
        return PerceptronGradient(predictor, parameters, gradient, batch)
    return FunctionalGradient(predictor, parameters, gradient)


class PerceptronGradient:
    """Backpropagation through a stack of perceptrons, written by hand.

    Work space and views are made once, since a step takes 150 us, in which each further allocation or view would show.
    """

    def __init__(self, network: Network, parameters: Tensor, gradient: Tensor, batch: int):
        self.upscale = 1 / (1 - network.dropout)
        weights = [layer.weights_of(parameters) for layer in network.layers]
        slopes = [layer.weights_of(gradient) for layer in network.layers]
        self.weights, self.biases = weights[:-1], [layer.bias_of(parameters)[:, None] for layer in network.layers]
        self.weights_transposed = [weight.transpose(1, 2) for weight in weights]
        self.weight_gradients = [*slopes[:-1], slopes[-1].transpose(1, 2)]
        self.bias_gradients = [layer.bias_of(gradient)[:, None] for layer in network.layers]
        self.output_bias = self.biases[-1][:, :, 0]
        nodes = len(parameters)
        self.activations = [parameters.new_empty(nodes, batch, width) for width in network.hidden]
        self.activations_transposed = [activation.transpose(1, 2) for activation in self.activations]
        self.deltas = [parameters.new_empty(nodes, batch, width) for width in network.hidden]
        self.products = parameters.new_empty(nodes, batch, network.layers[-1].inputs)
        self.slope = parameters.new_empty(nodes, batch)
        self.slope_column = self.slope[:, :, None]
        self.upscaled = torch.empty_like(self.slope)
        self.upscaled_column = self.upscaled[:, :, None]
        ends = np.cumsum(network.hidden)
        self.units = [slice(end - width, end) for end, width in zip(ends, network.hidden, strict=True)]

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Forward and backward pass; see StackedGradient."""
        top = self.activations[-1] if self.activations else inputs
        self._forward(inputs, top, keep, errors)
        errors -= target
        torch.mul(errors, scale, out=self.slope)
        self._backward(inputs, top)

    def _forward(self, inputs: Tensor, top: Tensor, keep: Tensor | None, output: Tensor) -> None:
        below = inputs
        for layer, activation in enumerate(self.activations):
            torch.baddbmm(self.biases[layer], below, self.weights[layer], out=activation).relu_()
            if keep is not None:
                activation.mul_(keep[:, :, self.units[layer]])
            below = activation
        # With one output, multiply-and-sum beats a batched product with a one-column matrix.
        torch.mul(top, self.weights_transposed[-1], out=self.products)
        torch.sum(self.products, 2, out=output)
        output += self.output_bias

    def _backward(self, inputs: Tensor, top: Tensor) -> None:
        self._propagate()
        self._collect(inputs, top)

    def _propagate(self) -> None:
        """Compute the slopes of each row's loss before each ReLU, from the output down."""
        torch.mul(self.slope, self.upscale, out=self.upscaled)
        for layer in reversed(range(len(self.activations))):
            delta, back = self.deltas[layer], self.weights_transposed[layer + 1]
            if layer == len(self.activations) - 1:
                torch.mul(self.upscaled_column, back, out=delta)
            else:
                torch.baddbmm(delta, self.deltas[layer + 1], back, beta=0, alpha=self.upscale, out=delta)
            # A unit that dropout silenced has activation 0, so the ReLU's mask covers it too.
            torch.ops.aten.threshold_backward.grad_input(delta, self.activations[layer], 0.0, grad_input=delta)

    def _collect(self, inputs: Tensor, top: Tensor) -> None:
        """Sum the gradients of the parameters over rows."""
        torch.mul(top, self.slope_column, out=self.products)
        torch.sum(self.products, 1, keepdim=True, out=self.weight_gradients[-1])
        torch.sum(self.slope_column, 1, keepdim=True, out=self.bias_gradients[-1])
        for layer in reversed(range(len(self.activations))):
            below = self.activations_transposed[layer - 1] if layer else inputs.transpose(1, 2)
            torch.bmm(below, self.deltas[layer], out=self.weight_gradients[layer])
            torch.sum(self.deltas[layer], 1, keepdim=True, out=self.bias_gradients[layer])


class FunctionalGradient:
    """Autograd gradients by torch.func.vmap over nodes, for any module that vmap can follow.

    A module's own dropout draws once for the whole stack, so its masks differ from those of a loop over nodes.
    """

    def __init__(self, predictor: Predictor, parameters: Tensor, gradient: Tensor):
        self.parameters, self.gradient = parameters, gradient

        def loss(row: Tensor, inputs: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            error = predictor.predict_in_training(row, inputs, None) - target
            return (error.square() * scale).sum() / 2, error

        self.rule = torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="different")

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Forward and backward pass of every node; see StackedGradient."""
        gradient, error = self.rule(self.parameters, inputs, target, scale)
        self.gradient.copy_(gradient)
        errors.copy_(error)
