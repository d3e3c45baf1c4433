"""A node's own deep network, with the vectors that it learned and its users' own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.private import PersonalModel
from hierfed.methods.averaging.deep_network import DeepNetwork
from hierfed.methods.averaging.deep_stack import places
from hierfed.methods.averaging.network import first_layer_change
from hierfed.methods.averaging.user_level import UserHeads
from hierfed.models.places import numbers_of
from hierfed.models.scale import RatingScale

CHUNK_ROWS = 2**15


@dataclass(frozen=True)
class SharedDeep:
    """Knowledge of all nodes: the network's form, public features and the shared item vectors.

    features: [items, features], of no column where the network takes none. item_vectors: [items, size].
    """

    network: DeepNetwork
    features: Tensor
    item_vectors: Tensor
    scale: RatingScale


class PersonalDeepNetwork(PersonalModel):
    """A node's network, the item vectors that it changed, its users' vectors, heads if they have any, and ratings.

    items, users: int64, ascending: whose vectors these are. Other items have the shared one, other users 0.
    """

    def __init__(
        self,
        shared: SharedDeep,
        parameters: Tensor,
        items: Tensor,
        item_vectors: Tensor,
        users: Tensor,
        user_vectors: Tensor,
        own: Ratings,
        heads: UserHeads | None = None,
    ):
        self.shared, self.parameters, self.own, self.heads = shared, parameters, own, heads
        self.items, self.item_vectors, self.users, self.user_vectors = items, item_vectors, users, user_vectors

    def outputs(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """Expected ratings without heads, float64 [rows], and the inputs of the output layer, float64 [rows, units]."""
        network, (user, item) = self.shared.network, numbers_of(rows)
        parts = [self.parameters[None, part] for part in network.slices()]
        ratings, hidden = [], []
        with torch.no_grad():
            for users, items in zip(torch.split(user, CHUNK_ROWS), torch.split(item, CHUNK_ROWS), strict=True):
                vectors = self._item_vectors(items), _looked_up(self.users, self.user_vectors, users)
                here = [each[None] for each in (self.shared.features[items], *vectors)]
                rating, top = network.outputs(parts, *here)
                ratings.append(self.shared.scale.in_stars(rating[0].double()))
                hidden.append(top[0].double())
        empty = torch.zeros(0, network.layers[-1].inputs, dtype=torch.float64)
        return torch.cat([empty[:, 0], *ratings]), torch.cat([empty, *hidden])

    def predict(self, rows: Ratings) -> Tensor:
        """The node's network with the user's vector, plus the user's head; see PersonalModel."""
        prediction, hidden = self.outputs(rows)
        return prediction if self.heads is None else prediction + self.heads.adjust(numbers_of(rows)[0], hidden)

    @property
    def finite(self) -> bool:
        """See PersonalModel."""
        return all(bool(each.isfinite().all()) for each in (self.parameters, self.item_vectors, self.user_vectors))

    def weight_change(self, shared: Mapping[str, Tensor]) -> float:
        """See PersonalModel."""
        return first_layer_change(self.shared.network, shared["parameters"], self.parameters)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """The node's network and item vectors; then each user's ratings, vector and head. See PersonalModel."""
        named = {name: tensor.contiguous() for name, tensor in self.shared.network.named(self.parameters).items()}
        yield None, named | {"own_items": self.items, "own_vectors": self.item_vectors}
        order = np.argsort(self.own.user, kind="stable")
        users, counts = np.unique(self.own.user, return_counts=True)
        vectors = _looked_up(self.users, self.user_vectors, torch.from_numpy(users).long())
        for place, (user, rows) in enumerate(zip(users.tolist(), np.split(order, counts.cumsum()[:-1]), strict=True)):
            own = self.own.take(rows)
            kept = {"items": torch.from_numpy(own.item).long(), "ratings": torch.from_numpy(own.value).double()}
            kept["user_vector"] = vectors[place].clone()
            if self.heads is not None:
                kept |= {"user_bias": self.heads.bias[place : place + 1].clone()}
                kept |= {"user_weights": self.heads.weights[place].clone()}
            yield user, kept

    def _item_vectors(self, item: Tensor) -> Tensor:
        found, place = self.shared.item_vectors[item], places(self.items, item)
        found[place > 0] = self.item_vectors[place[place > 0] - 1]
        return found


def restored(shared: SharedDeep, parameters: Tensor, kept: Mapping[str, Tensor]) -> PersonalDeepNetwork:
    """The model of one user, number 0, from the tensors of PersonalDeepNetwork; a newcomer's from none.

    parameters: of the shared network.
    """
    network, one = shared.network, torch.zeros(1, dtype=torch.int64)
    if not kept:
        nothing = torch.empty(0, dtype=torch.int64)
        vectors = [parameters.new_empty(0, size) for size in (network.item_size, network.user_size)]
        own = Ratings(np.empty(0, np.int32), nothing.numpy(), np.empty(0))
        return PersonalDeepNetwork(shared, parameters, nothing, vectors[0], nothing, vectors[1], own)
    heads = None
    if "user_bias" in kept:
        heads = UserHeads(one, kept["user_bias"], kept["user_weights"][None])
    items, stars = kept["items"].numpy(), kept["ratings"].numpy()
    own = Ratings(np.zeros(len(items), np.int32), items, stars)
    of_items, of_users = (kept["own_items"], kept["own_vectors"]), (one, kept["user_vector"][None])
    return PersonalDeepNetwork(shared, network.flat(kept), *of_items, *of_users, own, heads)


def _looked_up(numbers: Tensor, vectors: Tensor, asked: Tensor) -> Tensor:
    """The vector of each asked number, [asked, size]; 0 for those that are not among the ascending numbers."""
    place = places(numbers, asked)
    return torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])[place]
