"""A network that sees an item's features, a shared vector of the item, and a private vector of the user."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from hierfed.methods.averaging.network import Layer, Network, aligned
from hierfed.randomness import stream_keys

FIRST_SPREAD = 0.1


class DeepNetwork(Network):
    """Ratings from an item's features x, its vector e and the user's vector p.

        q = tanh(x A) + e,   a_1 = relu([x, e, p] W_1 + b_1),   a_l = a_{l-1} + relu(norm(a_{l-1}) W_l + b_l)
        rating = norm(a_L) w + b + e_0 + p_0 + p' . q'

    e_0, p_0: the first numbers of the vectors, which are biases. p', q': all others. norm: to mean 0 and variance 1
    over the units of a row. Without residual blocks a_l = relu(a_{l-1} W_l + b_l), and the last a is not normalised.

    With no features and no hidden layers, rating = [e, p] w + b + e_0 + p_0 + p' . e': FedMF (Chai et al., 2019,
    arXiv:1906.05108), with biases. With hidden layers it is FedNCF (Perifanis and Efraimidis, 2022, arXiv:2106.04405),
    with both of its halves.

    Sources: residual blocks before which one normalises: He et al., 2016, arXiv:1603.05027; normalisation: Ba et al.,
    2016, arXiv:1607.06450; features in factors: Gantner et al., ICDM 2010.

    features: their number. item_size, user_size: of the vectors; 0 for none.
    """

    def __init__(
        self,
        features: int,
        hidden: tuple[int, ...],
        dropout: float = 0.0,
        *,
        residual: bool = False,
        item_size: int = 0,
        user_size: int = 0,
    ):
        super().__init__(features + item_size + user_size, hidden, dropout)
        self.features, self.item_size, self.user_size, self.residual = features, item_size, user_size, residual
        self.projection: Layer | None = None
        if features and user_size:
            weight = slice(self.parameter_count, self.parameter_count + features * user_size)
            self.projection = Layer(features, user_size, weight, slice(0, 0))
            self.parameter_count = aligned(weight.stop)

    def initial(self, seed: int) -> Tensor:
        """As of Network; A like the weights of a layer. See Predictor."""
        parameters = super().initial(seed)
        if self.projection is not None:
            bound = self.projection.inputs**-0.5
            random = torch.Generator().manual_seed(_number(seed, "initial projection"))
            self.projection.weights_of(parameters).uniform_(-bound, bound, generator=random)
        return parameters

    def initial_vectors(self, seed: int, items: int) -> Tensor:
        """Fresh item vectors, float32 [items, size]."""
        random = torch.Generator().manual_seed(_number(seed, "initial item vectors"))
        vectors = FIRST_SPREAD * torch.randn(items, self.item_size, generator=random)
        vectors[:, 0] = 0.0
        return vectors

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """As of Network, and `projection` [features, size]; see Predictor."""
        named = super().named(parameters)
        if self.projection is not None:
            named["projection"] = self.projection.weights_of(parameters).contiguous()
        return named

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """See Predictor."""
        parameters = super().flat(named)
        if self.projection is not None:
            self.projection.weights_of(parameters).copy_(named["projection"])
        return parameters

    def slices(self) -> list[slice]:
        """The places of the weights and biases in the vector, layer by layer, and of A; see `outputs`."""
        parts = [part for layer in self.layers for part in (layer.weight, layer.bias)]
        return parts if self.projection is None else [*parts, self.projection.weight]

    def outputs(
        self, parts: list[Tensor], features: Tensor, item: Tensor, user: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ratings [nodes, rows], and the inputs of the output layer [nodes, rows, units].

        parts: each [nodes, numbers], the parameters at `slices`. features, item, user: [nodes, rows, ...], of no
        column where the network has none. keep: dropout factors [nodes, rows, units], or None.
        """
        activation, unit = torch.cat([features, item, user], 2), 0
        for number, layer in enumerate(self.layers[:-1]):
            below = self._normalised(activation) if number else activation
            weight = parts[2 * number].view(-1, layer.inputs, layer.outputs)
            here = torch.baddbmm(parts[2 * number + 1][:, None], below, weight).relu()
            if keep is not None:
                here = here * keep[:, :, unit : unit + layer.outputs]
            activation = here + activation if self.residual and number else here
            unit += layer.outputs
        top = self._normalised(activation) if len(self.layers) > 1 else activation
        last = 2 * len(self.layers) - 2
        rating = (top * parts[last][:, None]).sum(2) + parts[last + 1]
        return rating + self._of_vectors(parts, features, item, user), top

    def _of_vectors(self, parts: list[Tensor], features: Tensor, item: Tensor, user: Tensor) -> Tensor:
        """Biases and the product of the vectors, [nodes, rows]."""
        rating = item[:, :, :1].sum(2) + user[:, :, :1].sum(2)
        vector = item
        if self.projection is not None:
            projected = torch.bmm(features, parts[-1].view(-1, self.features, self.user_size)).tanh()
            vector = projected + item if self.item_size else projected
        if self.user_size and vector.shape[2]:
            rating = rating + (user[:, :, 1:] * vector[:, :, 1:]).sum(2)
        return rating

    def _normalised(self, activation: Tensor) -> Tensor:
        return layer_norm(activation, activation.shape[-1:]) if self.residual else activation


def _number(seed: int, purpose: str) -> int:
    return int(stream_keys(seed, 0, 0, purpose)[0]) >> 1
