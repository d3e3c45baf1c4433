"""Networks as functions of one flat parameter vector, so that a node is a row of a matrix [nodes, parameters]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hierfed.randomness import stream_keys

ALIGNMENT = 16


class Predictor(Protocol):
    """A model of ratings from item features, whose parameters are one float32 vector.

    parameter_count: length of the vector.
    mask_units: number of hidden units that dropout can silence; 0 without dropout.
    first_layer, head: slices of the vector with the first layer's weights and with the output layer.
    """

    parameter_count: int
    mask_units: int
    first_layer: slice
    head: slice

    def initial(self, seed: int) -> Tensor:
        """Fresh parameters [parameters], the same for the same seed."""
        ...

    def predict(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Ratings [rows] from one parameter vector and inputs [rows, features]; dropout is off."""
        ...

    def predict_in_training(self, parameters: Tensor, inputs: Tensor, keep: Tensor | None) -> Tensor:
        """Ratings [rows] with dropout on, differentiable.

        keep: bool [rows, mask_units], True for the units that dropout keeps; None for all.
        """
        ...

    def last_hidden(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """The inputs of the output layer, without dropout: [rows, units]."""
        ...

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """The parameters as named tensors in torch's own layout, for export."""
        ...

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """The parameter vector whose named tensors these are, [parameters]."""
        ...


@dataclass(frozen=True)
class Layer:
    """The places of a layer's weights [inputs, outputs] and bias [outputs] in the flat vector."""

    inputs: int
    outputs: int
    weight: slice
    bias: slice

    def weights_of(self, parameters: Tensor) -> Tensor:
        """View of the weights, [..., inputs, outputs], of parameters [..., parameters]."""
        weights = parameters[..., self.weight]
        return weights.view(*weights.shape[:-1], self.inputs, self.outputs)

    def bias_of(self, parameters: Tensor) -> Tensor:
        """View of the bias, [..., outputs]."""
        return parameters[..., self.bias]


class Network:
    """The paper's multi-layer perceptron: ReLU layers with dropout, one linear output.

    Layers start at multiples of 16 floats in the vector, and the gaps stay zero. On unaligned rows BLAS takes another
    path, with another last digit, so that a node's result would depend on its row in the stack.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], dropout: float = 0.0):
        self.hidden = hidden
        self.dropout = dropout
        self.mask_units = sum(hidden) if dropout > 0 else 0
        self.layers: list[Layer] = []
        end = 0
        for rows, columns in zip((inputs, *hidden), (*hidden, 1), strict=True):
            weight = slice(end, end + rows * columns)
            bias = slice(aligned(weight.stop), aligned(weight.stop) + columns)
            end = aligned(bias.stop)
            self.layers.append(Layer(rows, columns, weight, bias))
        self.parameter_count = end
        self.first_layer = self.layers[0].weight
        self.head = slice(self.layers[-1].weight.start, self.layers[-1].bias.stop)

    def initial(self, seed: int) -> Tensor:
        """Weights and biases uniform within 1 / sqrt(inputs) of 0, as torch.nn.Linear draws them."""
        random = torch.Generator().manual_seed(int(stream_keys(seed, 0, 0, "initial weights")[0] >> np.uint64(1)))
        parameters = torch.zeros(self.parameter_count)
        for layer in self.layers:
            bound = layer.inputs**-0.5
            layer.weights_of(parameters).uniform_(-bound, bound, generator=random)
            layer.bias_of(parameters).uniform_(-bound, bound, generator=random)
        return parameters

    def predict(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Ratings [rows]; see Predictor."""
        return self.predict_in_training(parameters, inputs, None)

    def predict_in_training(self, parameters: Tensor, inputs: Tensor, keep: Tensor | None) -> Tensor:
        """Ratings [rows]; see Predictor."""
        hidden = self._hidden(parameters, inputs, keep)
        output = self.layers[-1]
        return torch.addmm(output.bias_of(parameters), hidden, output.weights_of(parameters)).squeeze(-1)

    def last_hidden(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Activations of the last hidden layer [rows, units]; see Predictor."""
        return self._hidden(parameters, inputs, None)

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """`layers.K.weight` [outputs, inputs] and `layers.K.bias` [outputs]; see Predictor."""
        tensors = {}
        for number, layer in enumerate(self.layers):
            tensors[f"layers.{number}.weight"] = layer.weights_of(parameters).transpose(-1, -2).contiguous()
            tensors[f"layers.{number}.bias"] = layer.bias_of(parameters).contiguous()
        return tensors

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """The vector, with zeros in its gaps; see Predictor."""
        parameters = torch.zeros(self.parameter_count, dtype=named["layers.0.weight"].dtype)
        for number, layer in enumerate(self.layers):
            layer.weights_of(parameters).copy_(named[f"layers.{number}.weight"].T)
            layer.bias_of(parameters).copy_(named[f"layers.{number}.bias"])
        return parameters

    def _hidden(self, parameters: Tensor, inputs: Tensor, keep: Tensor | None) -> Tensor:
        activation, unit = inputs, 0
        for layer in self.layers[:-1]:
            activation = torch.addmm(layer.bias_of(parameters), activation, layer.weights_of(parameters)).relu()
            if keep is not None:
                activation = activation * keep[:, unit : unit + layer.outputs] / (1 - self.dropout)
            unit += layer.outputs
        return activation


class ModuleNetwork:
    """A torch.nn.Module that maps [rows, features] to [rows] or [rows, 1], as a Predictor.

    Its last parameters are those of a torch.nn.Linear, the head. Random layers in it, such as dropout, draw from
    torch's own generator, which the trainers seed. Modules with buffers (batch statistics) are refused: their mean
    means nothing.
    """

    mask_units = 0

    def __init__(self, module: torch.nn.Module):
        if any(True for _ in module.buffers()):
            raise ValueError("modules with buffers, such as batch normalisation, cannot be averaged: use GroupNorm")
        if not any(True for _ in module.parameters()):
            raise ValueError("the module has no parameters, so there is nothing to learn")
        self.module = module.eval()
        self._names = [name for name, _ in module.named_parameters()]
        self._shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [shape.numel() for shape in self._shapes]
        self.parameter_count = sum(self._sizes)
        self.first_layer = slice(0, self._sizes[0])
        last = [(name, part) for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)][-1:]
        if not last or self._names[-2:] != [f"{last[0][0]}.{part}".lstrip(".") for part in ("weight", "bias")]:
            raise ValueError("the module must end in a torch.nn.Linear with a bias, which is its head")
        self._head_module = last[0][1]
        if last[0][1].out_features != 1:
            raise ValueError(
                f"the module gives {last[0][1].out_features} numbers for an item, expected one, its rating"
            )
        self.head = slice(self.parameter_count - sum(self._sizes[-2:]), self.parameter_count)

    def initial(self, seed: int) -> Tensor:
        """The module's own parameters. `seed` is not used, since the caller made the module."""
        return torch.nn.utils.parameters_to_vector(self.module.parameters()).detach().clone()

    def predict(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """Ratings [rows]; see Predictor."""
        output: Tensor = torch.func.functional_call(self.module, self.named(parameters), (inputs,))
        return output.reshape(len(inputs))

    def predict_in_training(self, parameters: Tensor, inputs: Tensor, keep: Tensor | None) -> Tensor:
        """Ratings [rows], with the module in its training mode; see Predictor."""
        try:
            self.module.train()
            return self.predict(parameters, inputs)
        finally:
            self.module.eval()

    def last_hidden(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        """The inputs of the module's last linear layer; see Predictor."""
        seen: list[Tensor] = []
        hook = self._head_module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            self.predict(parameters, inputs)
        finally:
            hook.remove()
        return seen[0]

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """The module's parameters under their own names; see Predictor."""
        parts = torch.split(parameters, self._sizes, dim=-1)
        return {
            name: part.reshape(part.shape[:-1] + shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=True)
        }

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """The module's parameters, one after the other; see Predictor."""
        return torch.cat([named[name].flatten() for name in self._names])


def rate(predictor: Predictor, parameters: Tensor, features: Tensor, item: Tensor) -> Tensor:
    """Ratings of these items, float64 [rows]. The network runs once per distinct item, not once per row."""
    return _once_for_each(predictor.predict, parameters, features, item)


def last_hidden(predictor: Predictor, parameters: Tensor, features: Tensor, item: Tensor) -> Tensor:
    """Activations of the last hidden layer for these items, float64 [rows, units].

    The network runs once per distinct item.
    """
    return _once_for_each(predictor.last_hidden, parameters, features, item)


def _once_for_each(
    run: Callable[[Tensor, Tensor], Tensor], parameters: Tensor, features: Tensor, item: Tensor
) -> Tensor:
    items, place = torch.unique(item, return_inverse=True)
    with torch.no_grad():
        return run(parameters, features[items]).double()[place]


def first_layer_change(predictor: Predictor, before: Tensor, after: Tensor) -> float:
    """L2 norm of the change of the first layer's weights between two parameter vectors."""
    return float((after - before)[predictor.first_layer].double().square().sum().sqrt())


def occupied(predictor: Predictor) -> Tensor:
    """The places of the parameter vector that hold a parameter and are no gap: bool [parameters]."""
    numbered = predictor.named(torch.arange(predictor.parameter_count, dtype=torch.float64))
    places = torch.zeros(predictor.parameter_count, dtype=torch.bool)
    places[torch.cat([tensor.flatten() for tensor in numbered.values()]).long()] = True
    return places


def aligned(position: int) -> int:
    """The next multiple of 16 floats, 64 bytes."""
    return -(-position // ALIGNMENT) * ALIGNMENT
