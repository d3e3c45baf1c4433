"""Federated averaging (McMahan et al., 2017, arXiv:1602.05629), with FedProx's proximal term if it is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import ROUNDING, Check, Sent, between, counts, not_negative
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method, Restorer, RivalErrors, RivalRows
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.federated.server_optimizers import PlainStep, ServerOptimizer
from hierfed.methods.averaging.network import Network, Predictor, first_layer_change, last_hidden, rate
from hierfed.methods.averaging.node_level import NodePersonalisation, personalise_nodes
from hierfed.methods.averaging.training import LocalTraining, Streams, Trainer
from hierfed.methods.averaging.user_level import UserHeads, UserPersonalisation, fit_user_heads
from hierfed.models.places import numbers_of
from hierfed.models.scale import HIGHEST, LOWEST, RatingScale, header_of
from hierfed.privacy.clipping import clip_rows

# A node moves the parameters by at most this share of their norm in a round, and by as much as if that were 1 at least.
LARGEST_CHANGE = 2.0


def largest_change(parameters: Tensor) -> float:
    """The norm that no node's mean change passes: nodes clip to it, and a server refuses what is beyond."""
    return LARGEST_CHANGE * max(float(torch.linalg.vector_norm(parameters.double())), 1.0)


def short(name: str, most: float) -> Check:
    """The norm of an array is at most `most`, times the rows."""

    def check(sent: Sent) -> str:
        allowed = most * float(sent["rows"]) * (1 + ROUNDING) + len(sent[name]) ** 0.5 * (1 + most) * sent.error
        beyond = float(torch.linalg.vector_norm(sent[name])) > allowed
        return f"{name} is further from the model than a node may move it" if beyond else ""

    return check


@dataclass(frozen=True)
class FederatedAveraging(Method):
    """Federated averaging of a network: global <- global + sum_k n_k (local_k - global) / sum_k n_k.

    local_k: node k's parameters after its local epochs. n_k: its number of rows. A server optimizer may replace the
    plain step.

    Source: McMahan et al., 2017, arXiv:1602.05629; server optimizers: Reddi et al., 2021, arXiv:2003.00295.

    features: [items, features], public. Their type is that of all training: float32, or float64 to check it.
    start_at_mean: True sets the output bias to the train rows' mean rating, from the nodes' sums in a round 0.
    optimizer: the server's optimizer.
    """

    predictor: Predictor
    trainer: Trainer
    features: Tensor
    training: LocalTraining
    node_level: NodePersonalisation
    user_level: UserPersonalisation
    start_at_mean: bool
    seed: int
    remedy: ClassVar[str] = "lower training.learning_rate"
    optimizer: ServerOptimizer = field(default_factory=PlainStep, kw_only=True)

    def start(self) -> SharedModel:
        """Random parameters.

        Under `start_at_mean`, round 0 comes next, in which nodes send the sum of their ratings. See Method.
        """
        return SharedModel({"parameters": self._initial()}, round=-1 if self.start_at_mean else 0)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """n (local - global), n and n times each epoch's loss, for a node of n rows.

        In round 0 the sum of ratings and n.
        """
        round_number = shared.round + 1
        rows = [torch.tensor([len(node.train)], dtype=torch.float64) for node in nodes]
        if round_number == 0:
            for node, count in zip(nodes, rows, strict=True):
                ratings = torch.from_numpy(node.train.value).double()
                yield Contribution({"ratings": ratings.sum().reshape(1), "rows": count}), None
            return
        changes = self.local_changes(shared, nodes, self.trainer)
        for (change, losses), count in zip(changes, rows, strict=True):
            yield Contribution({"change": count * change, "rows": count, "loss": count * losses}), None

    def local_changes(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        trainer: Trainer,
        corrections: Mapping[int, Tensor] = MappingProxyType({}),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each node's local - global, float64 [parameters], and its losses, [epochs].

        trainer: trains the nodes. corrections: see LocalTraining.
        """
        training = replace(self.training, corrections=corrections)
        start = shared.arrays["parameters"].expand(len(nodes), -1)
        streams = Streams(self.seed, shared.round + 1, "training")
        local, losses = trainer(self.predictor, start, self.features, nodes, training, streams)
        most = largest_change(start[0])
        for parameters, loss in zip(local, losses, strict=True):
            yield clip_rows((parameters.double() - start[0].double())[None], most)[0], loss

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The global parameters moved by sum of n (local - global) / sum of n; see Method."""
        kind, parameters = self.features.dtype, shared.arrays["parameters"].double()
        rows = total.arrays["rows"]
        if "ratings" in total.arrays:
            mean = (total.arrays["ratings"] / rows).item()
            parameters[self.predictor.head.stop - 1] = self.training.scale.learned(mean)
            return SharedModel({"parameters": parameters.to(kind)}, shared.round + 1)
        moved, server = self.optimizer.step(parameters, total.arrays["change"] / rows, shared.server)
        return SharedModel({"parameters": moved.to(kind)}, shared.round + 1, server=server)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Sums of ratings on their scale; then a mean change and losses that ratings can give. See SumMethod."""
        if shared.round + 1 == 0:
            low, high = (self.training.scale.in_stars(end) for end in (LOWEST, HIGHEST))
            within_scale = between(
                "ratings", lambda sent: low * sent["rows"], lambda sent: high * sent["rows"], abs(high)
            )
            return counts("rows"), within_scale
        most = largest_change(shared.arrays["parameters"])

        return counts("rows"), not_negative("loss"), short("change", most)

    def train_loss(self, total: Contribution) -> list[float]:
        """Row-weighted mean of the nodes' losses per local epoch, in stars; see Method."""
        mean = total.arrays["loss"] / total.arrays["rows"]
        in_stars: list[float] = (self.training.scale.unit**2 * mean).tolist()
        return in_stars

    def train_alone(self, nodes: Sequence[Node], rounds: int) -> Tensor:
        """Each node's parameters after training alone, [nodes, parameters]: a federation of one node each."""
        start = self._initial().repeat(len(nodes), 1)
        if self.start_at_mean:
            for row, node in enumerate(nodes):
                mean = float(node.train.value.mean(dtype=np.float64))
                start[row, self.predictor.head.stop - 1] = self.training.scale.learned(mean)
        for number in range(1, rounds + 1):
            streams = Streams(self.seed, number, "training")
            start, _ = self.trainer(self.predictor, start, self.features, nodes, self.training, streams)
        return start

    def header(self) -> dict[str, str]:
        """The scale of the network's output; see Method."""
        own = {} if isinstance(self.predictor, Network) else {"unserved": "it trained a module of your own"}
        return header_of(self.training.scale) | own

    @property
    def local_epochs(self) -> int:
        """See Method."""
        return self.training.epochs

    def refit(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        private: Sequence[PrivateState | None],
        besides: Callable[[Node], Ratings],
        judged: Sequence[PersonalModel],
    ) -> Sequence[PersonalModel]:
        """The judged models themselves, since new ones would need more training; see Method."""
        return judged

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """The same network on each node alone, and on all rows in one place; see Method."""
        from hierfed.methods.averaging.rivals import train_without_federation  # noqa: PLC0415 - it trains this class

        return train_without_federation(self, rows)

    def _initial(self) -> Tensor:
        return self.predictor.initial(self.seed).to(self.features.dtype)

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The network's ratings; see Method."""
        return self.rate(shared.arrays["parameters"], torch.from_numpy(ratings.item).long())

    def rate(self, parameters: Tensor, item: Tensor) -> Tensor:
        """Ratings of these items by a network of these parameters, float64 [rows]."""
        return self.training.scale.in_stars(rate(self.predictor, parameters, self.features, item))

    def named(self, shared: SharedModel) -> dict[str, Tensor]:
        """The network's layers in torch's own layout; see Method."""
        return self.predictor.named(shared.arrays["parameters"])

    def from_named(self, tensors: Mapping[str, Tensor], finished_round: int) -> SharedModel:
        """See Method."""
        return SharedModel({"parameters": self.predictor.flat(tensors)}, finished_round)

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        nothing = torch.empty(0, dtype=torch.int64)

        def restore(kept: Mapping[str, Tensor]) -> PersonalModel:
            parameters = self.predictor.flat(kept) if kept else shared.arrays["parameters"]
            heads = None
            if "user_bias" in kept:
                heads = UserHeads(torch.zeros(1, dtype=torch.int64), kept["user_bias"], kept["user_weights"][None])
            items, stars = (kept[name].numpy() if kept else nothing.numpy() for name in ("items", "ratings"))
            own = Ratings(np.zeros(len(items), np.int32), items, stars)
            network = PersonalNetwork(self.predictor, self.features, parameters, heads, self.training.scale, own)
            return self.user_level.completed(network, own)

        return restore

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """What personalisation starts from: shared parameters, [parameters], or each node's, [nodes, parameters]."""
        return shared.arrays["parameters"]

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Sequence[PersonalModel]:
        """The node level, then each user's head on top of it; see Method."""
        local = personalise_nodes(
            self.predictor,
            self.trainer,
            self.own_start(shared, nodes, private),
            self.features,
            nodes,
            self.node_level,
            self.seed,
        )
        models: list[PersonalModel] = []
        for parameters, node in zip(local, nodes, strict=True):
            heads = None
            if self.user_level.heads:
                item = torch.from_numpy(node.train.item).long()
                prediction = self.rate(parameters, item)
                hidden = last_hidden(self.predictor, parameters, self.features, item)
                heads = fit_user_heads(node.train, prediction, hidden, self.user_level)
            same = self.predictor, self.features, parameters, heads, self.training.scale, node.train
            models.append(self.user_level.completed(PersonalNetwork(*same), node.train))
        return models


class PersonalNetwork(PersonalModel):
    """A node's own parameters, its users' heads if they have any, and their ratings."""

    def __init__(
        self,
        predictor: Predictor,
        features: Tensor,
        parameters: Tensor,
        heads: UserHeads | None,
        scale: RatingScale,
        own: Ratings,
    ):
        self.predictor, self.features, self.scale = predictor, features, scale
        self.parameters, self.heads, self.own = parameters, heads, own

    def predict(self, rows: Ratings) -> Tensor:
        """The node's network plus the user's head; see PersonalModel."""
        user, item = numbers_of(rows)
        prediction = self.scale.in_stars(rate(self.predictor, self.parameters, self.features, item))
        if self.heads is None:
            return prediction
        return prediction + self.heads.adjust(user, last_hidden(self.predictor, self.parameters, self.features, item))

    @property
    def finite(self) -> bool:
        """See PersonalModel."""
        return bool(self.parameters.isfinite().all())

    def weight_change(self, shared: Mapping[str, Tensor]) -> float:
        """See PersonalModel."""
        return first_layer_change(self.predictor, shared["parameters"], self.parameters)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """The node's network; then each user's ratings, bias and weights. See PersonalModel."""
        yield None, {name: tensor.contiguous() for name, tensor in self.predictor.named(self.parameters).items()}
        order = np.argsort(self.own.user, kind="stable")
        users, counts = np.unique(self.own.user, return_counts=True)
        for place, (user, rows) in enumerate(zip(users.tolist(), np.split(order, counts.cumsum()[:-1]), strict=True)):
            own = self.own.take(rows)
            kept = {"items": torch.from_numpy(own.item).long(), "ratings": torch.from_numpy(own.value).double()}
            if self.heads is not None:
                kept |= {"user_bias": self.heads.bias[place : place + 1].clone()}
                kept |= {"user_weights": self.heads.weights[place].clone()}
            yield user, kept
