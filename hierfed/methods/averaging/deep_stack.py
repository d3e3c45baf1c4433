"""Stacks of nodes with vectors of their own: a row holds a node's network, its items' vectors and its users'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.methods.averaging.deep_network import DeepNetwork
from hierfed.methods.averaging.gradients import MakeGradient, StackedGradient
from hierfed.methods.averaging.network import Predictor, aligned


@dataclass(frozen=True)
class VectorSteps:
    """The vectors' own steps: for each rating, v <- v - rate (error d rating / d v + penalty v).

    Adam would move a vector that is seldom seen as far for a small gradient as for a large one.

    Source: Funk's matrix factorisation, as in Koren et al., 2009.
    """

    rate: float
    penalty: float


@dataclass(frozen=True)
class Own:
    """A node's numbers in a stack.

    items, users: int64, ascending: those that have a vector here. counts: the node's ratings of each item, float64.
    item_vectors [items, size], user_vectors [users, size]: where they start.
    """

    items: Tensor
    counts: Tensor
    item_vectors: Tensor
    users: Tensor
    user_vectors: Tensor


@dataclass(frozen=True)
class Trained:
    """A node's network [parameters] and vectors after training; see Own."""

    parameters: Tensor
    item_vectors: Tensor
    user_vectors: Tensor


class DeepStack:
    """The rows that the stacked trainer trains: [network | item vectors | user vectors], padded to the largest node.

    Vector 0 of the items is that of all items without one; it is 0 and stays so. Trainers look up a row of `codes` for
    each rating where they would look up an item's features: its item, and the places of its item and its user among
    the node's own.

    features: [items, features], public.
    """

    def __init__(
        self, network: DeepNetwork, features: Tensor, steps: VectorSteps, nodes: Sequence[Node], own: Sequence[Own]
    ):
        self.network, self.features, self.steps, self.own = network, features, steps, own
        self.items = 1 + max(len(each.items) for each in own)
        self.first_item = network.parameter_count
        self.first_user = self.first_item + aligned(self.items * network.item_size)
        self.users = max(len(each.users) for each in own)
        self.length = self.first_user + aligned(self.users * network.user_size)
        codes, self.nodes, begin = [], [], 0
        for node, each in zip(nodes, own, strict=True):
            codes.append(_codes(node, each))
            rows = np.arange(begin, begin + len(node.train), dtype=np.int32)
            train = Ratings(node.train.user, rows, node.train.value)
            self.nodes.append(Node(node.number, node.name, train, train.between(0, 0)))
            begin += len(rows)
        self.codes = torch.cat(codes).to(features.dtype)

    def start(self, parameters: Tensor) -> Tensor:
        """The rows to start from, [nodes, length]; parameters: [nodes, parameters]."""
        rows = parameters.new_zeros(len(self.own), self.length)
        rows[:, : self.first_item] = parameters
        for row, each in zip(rows, self.own, strict=True):
            self._item_vectors(row)[1 : 1 + len(each.items)] = each.item_vectors.to(rows)
            self._user_vectors(row)[: len(each.users)] = each.user_vectors.to(rows)
        return rows

    def trained(self, rows: Tensor) -> list[Trained]:
        """Each node's numbers, from its row."""
        return [
            Trained(
                row[: self.first_item].clone(),
                self._item_vectors(row)[1 : 1 + len(each.items)].clone(),
                self._user_vectors(row)[: len(each.users)].clone(),
            )
            for row, each in zip(rows, self.own, strict=True)
        ]

    def gradient(self, items_too: bool = True) -> MakeGradient:
        """The gradient of the network, by autograd; vectors take their own steps while it is computed.

        items_too: False where item vectors stay as they are.
        """
        network, slices = self.network, self.network.slices()
        rates = self.steps.rate if items_too else 0.0, self.steps.rate

        def make(predictor: Predictor, rows: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
            tables = self._item_vectors(rows), self._user_vectors(rows)

            def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
                code = inputs.long()
                shape = code.shape[:2]
                features = self.features.index_select(0, code[:, :, 0].reshape(-1)).view(*shape, -1)
                places = [
                    code[:, :, 1 + number, None].expand(-1, -1, table.shape[2]) for number, table in enumerate(tables)
                ]
                leaves = [rows[:, part] for part in slices]
                leaves += [table.gather(1, place) for table, place in zip(tables, places, strict=True)]
                leaves = [leaf.detach().requires_grad_() for leaf in leaves]
                *parts, item, user = leaves
                with torch.enable_grad():
                    rating, _ = network.outputs(parts, features[:, :, : network.features], item, user, keep)
                    error = rating - target
                    slopes = torch.autograd.grad((error.square() * scale).sum() / 2, leaves, allow_unused=True)
                for part, slope in zip(slices, slopes, strict=False):
                    gradient[:, part] = 0.0 if slope is None else slope
                for table, place, vector, slope, rate in zip(
                    tables, places, (item, user), slopes[-2:], rates, strict=True
                ):
                    if rate and slope is not None:
                        # By rating, where the network's gradient is the batch's mean; 0 at the padding.
                        each = torch.where(scale > 0, 1 / scale, 0.0)[:, :, None] * slope
                        each = each + self.steps.penalty * (scale > 0)[:, :, None] * vector.detach()
                        table.scatter_add_(1, place, -rate * each)
                tables[0][:, 0] = 0.0
                errors.copy_(error.detach())

            return compute

        return make

    def _item_vectors(self, rows: Tensor) -> Tensor:
        return _table(rows, self.first_item, self.items, self.network.item_size)

    def _user_vectors(self, rows: Tensor) -> Tensor:
        return _table(rows, self.first_user, self.users, self.network.user_size)


def own_of(
    node: Node, network: DeepNetwork, item_vectors: Tensor, allowed: Tensor, users: Tensor, user_vectors: Tensor
) -> Own:
    """The start of a node.

    item_vectors: the shared ones, [items, size]. allowed: bool [items], those that may be learned. users, user_vectors:
    what the node kept; others start at 0.
    """
    items, counts = np.unique(node.train.item, return_counts=True)
    chosen = torch.from_numpy(items).long()
    may = allowed[chosen] if network.item_size else torch.zeros(len(chosen), dtype=torch.bool)
    here = torch.from_numpy(np.unique(node.train.user)).long()
    vectors = item_vectors.new_zeros(len(here), network.user_size)
    if len(users):
        place = torch.searchsorted(users, here).clamp_max(len(users) - 1)
        known = users[place] == here
        vectors[known] = user_vectors[place[known]].to(vectors)
    chosen = chosen[may]
    return Own(chosen, torch.from_numpy(counts).double()[may], item_vectors[chosen], here, vectors)


def places(of: Tensor, asked: Tensor) -> Tensor:
    """1 + the place of each asked number among `of`, ascending, and 0 for those that are not there."""
    if not len(of):
        return torch.zeros_like(asked)
    place = torch.searchsorted(of, asked).clamp_max(len(of) - 1)
    return torch.where(of[place] == asked, place + 1, 0)


def _codes(node: Node, own: Own) -> Tensor:
    item, user = torch.from_numpy(node.train.item).long(), torch.from_numpy(node.train.user).long()
    return torch.stack([item, places(own.items, item), places(own.users, user) - 1], 1)


def _table(rows: Tensor, first: int, count: int, size: int) -> Tensor:
    """The view [..., count, size] of a part of rows [..., length]."""
    part = rows[..., first : first + count * size]
    return part.view(*part.shape[:-1], count, size)
