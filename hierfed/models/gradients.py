"""Gradients of many nodes' losses at once, one row of a matrix [nodes, parameters] each."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from hierfed.models.network import Network, Predictor


class StackedGradient(Protocol):
    """Writes the gradients of a stack of nodes into a given matrix.

    Called with inputs [nodes, batch, features], target and scale [nodes, batch] (scale: 2 / rows, 0 at padding) and
    keep (dropout factors [nodes, batch, units], or None); writes prediction - target into errors [nodes, batch].
    """

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Compute all gradients; see StackedGradient."""
        ...


def gradient_of(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
    """The fastest gradient for this predictor, from parameters into gradient, both [nodes, parameters]."""
    if isinstance(predictor, Network):
        return PerceptronGradient(predictor, parameters, gradient, batch)
    return FunctionalGradient(predictor, parameters, gradient)


class PerceptronGradient:
    """Backpropagation through a stack of perceptrons, written by hand into work space that is allocated once."""

    def __init__(self, network: Network, parameters: Tensor, gradient: Tensor, batch: int):
        nodes = len(parameters)
        self.upscale = 1 / (1 - network.dropout)
        self.weights = [layer.weights_of(parameters) for layer in network.layers]
        self.biases = [layer.bias_of(parameters).unsqueeze(1) for layer in network.layers]
        self.weight_gradients = [layer.weights_of(gradient) for layer in network.layers]
        self.bias_gradients = [layer.bias_of(gradient).unsqueeze(1) for layer in network.layers]
        self.activations = [parameters.new_empty(nodes, batch, width) for width in network.hidden]
        self.deltas = [parameters.new_empty(nodes, batch, width) for width in network.hidden]
        self.products = parameters.new_empty(nodes, batch, network.layers[-1].inputs)
        self.slope = parameters.new_empty(nodes, batch)

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Forward and backward pass; see StackedGradient."""
        below = [inputs, *self.activations]
        self._forward(below, keep, errors)
        errors -= target
        torch.mul(errors, scale, out=self.slope)
        self._backward(below, keep)

    def _forward(self, below: list[Tensor], keep: Tensor | None, output: Tensor) -> None:
        unit = 0
        for layer, activation in enumerate(self.activations):
            torch.baddbmm(self.biases[layer], below[layer], self.weights[layer], out=activation).relu_()
            if keep is not None:
                activation.mul_(keep[:, :, unit : unit + activation.shape[2]])
                unit += activation.shape[2]
        # With one output, multiply-and-sum beats a batched product with a one-column matrix.
        torch.mul(below[-1], self.weights[-1].transpose(1, 2), out=self.products)
        torch.sum(self.products, 2, out=output)
        output += self.biases[-1][:, :, 0]

    def _backward(self, below: list[Tensor], keep: Tensor | None) -> None:
        slope = self.slope.unsqueeze(2)
        torch.mul(below[-1], slope, out=self.products)
        torch.sum(self.products, 1, keepdim=True, out=self.weight_gradients[-1].transpose(1, 2))
        torch.sum(slope, 1, keepdim=True, out=self.bias_gradients[-1])
        for layer in reversed(range(len(self.activations))):
            delta, above = self.deltas[layer], self.weights[layer + 1].transpose(1, 2)
            if layer == len(self.activations) - 1:
                torch.mul(slope, above, out=delta)
            else:
                torch.bmm(self.deltas[layer + 1], above, out=delta)
            # A unit that dropout silenced has activation 0, so the ReLU's mask covers it too.
            torch.ops.aten.threshold_backward.grad_input(delta, self.activations[layer], 0.0, grad_input=delta)
            if keep is not None:
                delta.mul_(self.upscale)
            torch.bmm(below[layer].transpose(1, 2), delta, out=self.weight_gradients[layer])
            torch.sum(delta, 1, keepdim=True, out=self.bias_gradients[layer])


class FunctionalGradient:
    """torch.func.vmap over nodes of the autograd gradient: for any module that vmap can follow.

    A module's own dropout draws for the whole stack at once, so its masks are not those of the loop.
    """

    def __init__(self, predictor: Predictor, parameters: Tensor, gradient: Tensor):
        self.parameters, self.gradient = parameters, gradient

        def loss(row: Tensor, inputs: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            error = predictor.predict(row, inputs) - target
            return (error.square() * scale).sum() / 2, error

        self.rule = torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="different")

    def __call__(self, inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
        """Forward and backward pass of every node; see StackedGradient."""
        gradient, error = self.rule(self.parameters, inputs, target, scale)
        self.gradient.copy_(gradient)
        errors.copy_(error)
