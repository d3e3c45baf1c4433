"""Federated averaging of networks with item vectors, which are shared, and user vectors, which stay at their nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, row_counts
from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import ROUNDING, Check, Sent, counts, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Restorer, RivalErrors, RivalRows
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change
from hierfed.methods.averaging.corrections import sums_of
from hierfed.methods.averaging.deep_network import DeepNetwork
from hierfed.methods.averaging.deep_personal import PersonalDeepNetwork, SharedDeep, restored
from hierfed.methods.averaging.deep_stack import DeepStack, Own, Trained, VectorSteps, own_of
from hierfed.methods.averaging.node_level import personalise_nodes
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.threads import stacks_of
from hierfed.methods.averaging.training import Streams
from hierfed.methods.averaging.user_level import fit_user_heads
from hierfed.models.threads import in_order
from hierfed.privacy.clipping import clip_rows
from hierfed.settings import Settings

Result = TypeVar("Result")

# A node moves an item's vector in a round by at most this norm.
LARGEST_ITEM_CHANGE = 2.0
NOBODY = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class UserVectors(PrivateState):
    """The vectors of a node's users. users: int64 [users], ascending. vectors: [users, size]."""

    users: Tensor
    vectors: Tensor

    def kept(self) -> dict[str, Tensor]:
        """See PrivateState."""
        return {"users": self.users, "vectors": self.vectors}


@dataclass(frozen=True)
class DeepAveraging(FederatedAveraging):
    """Federated averaging of a DeepNetwork; its base class.

        x <- x + sum_k n_k (x_k - x) / sum_k n_k,   e_i <- e_i + sum_k n_ki (e_ki - e_i) / sum_k n_ki

    x: the network's parameters. e_i: item i's vector, which moves at the nodes k that have n_ki > 0 ratings of it.
    Items with fewer raters than the threshold have e_i = 0. Each node keeps its users' vectors; a user's starts at 0.
    Vectors take a step of their own for each rating, and Adam or SGD moves the network once for each batch.

    Personalisation trains the users' vectors on a node's rows, then does what its levels say.

    steps: of the vectors. threshold: the least number of raters. threads: that share the stacks of nodes.
    """

    steps: VectorSteps
    threshold: int
    threads: int

    @property
    def network(self) -> DeepNetwork:
        """The predictor."""
        return cast("DeepNetwork", self.predictor)

    @property
    def least_raters(self) -> int:
        """See Method."""
        return self.threshold if self.network.item_size else 0

    def start(self) -> SharedModel:
        """Random parameters and item vectors; see Method."""
        plain, size = super().start(), self.network.item_size
        if not size:
            return plain
        vectors = self.network.initial_vectors(self.seed, len(self.features)).to(self.features.dtype)
        raters = torch.zeros(len(vectors), dtype=torch.float64)
        return SharedModel({**plain.arrays, "item_vectors": vectors, "raters": raters}, plain.round)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """n (local - global) of the network, n_ki times that of each item vector; see Method.

        In round 0 the sum of ratings, n and n_ki.
        """
        if shared.round + 1 == 0:
            for node, (plain, _) in zip(nodes, super().contribute(shared, nodes, private), strict=True):
                sent = dict(plain.arrays)
                if self.network.item_size:
                    raters = np.bincount(node.train.item, minlength=len(self.features))
                    sent["raters"] = torch.from_numpy(raters).double()
                yield Contribution(sent), None
            return
        begin = shared.arrays["parameters"]
        most = largest_change(begin)
        found = self._train(shared, nodes, private)
        for node, (own, (trained, losses)) in zip(nodes, found, strict=True):
            (change,) = clip_rows((trained.parameters.double() - begin.double())[None], most)
            sent = dict(sums_of(len(node.train), change=change, loss=losses).arrays)
            if self.network.item_size:
                rows = torch.zeros(len(self.features), dtype=torch.float64)
                rows[own.items] = own.counts
                moved = trained.item_vectors.double() - own.item_vectors.double()
                item_change = torch.zeros(len(rows), self.network.item_size, dtype=torch.float64)
                item_change[own.items] = own.counts[:, None] * clip_rows(moved, LARGEST_ITEM_CHANGE)
                sent |= {"item_change": item_change, "item_rows": rows}
            state = UserVectors(own.users, trained.user_vectors) if self.network.user_size else None
            yield Contribution(sent), state

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The network as FedAvg's; each item's vector by the ratings of it. See Method."""
        moved = super().combine(shared, total)
        if not self.network.item_size:
            return moved
        vectors, raters = shared.arrays["item_vectors"], shared.arrays["raters"]
        if "raters" in total.arrays:
            raters = torch.from_numpy(rounded_up(total.arrays["raters"].numpy(), self.threshold))
            vectors = torch.where(raters[:, None] > 0, vectors, 0.0)
        else:
            change = total.arrays["item_change"] / total.arrays["item_rows"].clamp_min(1)[:, None]
            vectors = (vectors.double() + change).to(vectors.dtype)
        return replace(moved, arrays={**moved.arrays, "item_vectors": vectors, "raters": raters})

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The plain checks; item vectors move no further than a node may move them, and no rare one does."""
        plain = super().checks(shared)
        if not self.network.item_size:
            return plain
        if shared.round + 1 == 0:
            return *plain, counts("raters"), within("raters", lambda sent: sent["rows"])
        allowed = shared.arrays["raters"] > 0
        return *plain, counts("item_rows"), within("item_rows", lambda sent: allowed * sent["rows"]), _near

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalModel]:
        """The users' vectors, the node level, then each user's head on top; see Method."""
        known, models = self._shared(shared), list[PersonalModel]()
        for (own, trained), node in zip(self._personal(shared, nodes, private), nodes, strict=True):
            changed = own.items if self.node_level.how != "none" else NOBODY
            vectors = trained.item_vectors[: len(changed)]
            same = known, trained.parameters, changed, vectors, own.users, trained.user_vectors, node.train
            model = PersonalDeepNetwork(*same)
            if self.user_level.heads:
                prediction, hidden = model.outputs(node.train)
                heads = fit_user_heads(node.train, prediction, hidden, self.user_level)
                model = PersonalDeepNetwork(*same, heads)
            models.append(self.user_level.completed(model, node.train))
        return models

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The ratings of a user whose vector is 0; see Method."""
        items, place = np.unique(ratings.item, return_inverse=True)
        rows = Ratings(np.zeros(len(items), np.int32), items, np.zeros(len(items), np.float32))
        return restored(self._shared(shared), shared.arrays["parameters"], {}).predict(rows)[torch.from_numpy(place)]

    def named(self, shared: SharedModel) -> dict[str, Tensor]:
        """The network's layers and the item vectors; see Method."""
        return super().named(shared) | {name: shared.arrays[name] for name in _vector_names(shared.arrays)}

    def from_named(self, tensors: Mapping[str, Tensor], finished_round: int) -> SharedModel:
        """See Method."""
        plain = super().from_named(tensors, finished_round)
        return replace(plain, arrays={**plain.arrays, **{name: tensors[name] for name in _vector_names(tensors)}})

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        known = self._shared(shared)

        def restore(kept: Mapping[str, Tensor]) -> PersonalModel:
            network = restored(known, shared.arrays["parameters"], kept)
            return self.user_level.completed(network, network.own)

        return restore

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """None: a network with vectors is compared with those that its benchmark names; see Method."""
        return RivalErrors()

    def _shared(self, shared: SharedModel) -> SharedDeep:
        none = self.features.new_zeros(len(self.features), 0)
        vectors = shared.arrays.get("item_vectors", none)
        return SharedDeep(self.network, self.features[:, : self.network.features], vectors, self.training.scale)

    def _own(self, shared: SharedModel, node: Node, state: PrivateState | None) -> Own:
        known = self._shared(shared)
        allowed = shared.arrays["raters"] > 0 if self.network.item_size else torch.zeros(0, dtype=torch.bool)
        kept = {} if state is None else state.kept()
        nothing = known.item_vectors.new_zeros(0, self.network.user_size)
        users, vectors = kept.get("users", NOBODY), kept.get("vectors", nothing)
        return own_of(node, self.network, known.item_vectors, allowed, users, vectors)

    def _train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[tuple[Own, tuple[Trained, Tensor]]]:
        """The start of each node; its own numbers after the round's training, and the losses, [epochs]."""
        streams, begin = Streams(self.seed, shared.round + 1, "training"), shared.arrays["parameters"]

        def train(stack: DeepStack) -> list[tuple[Trained, Tensor]]:
            training = replace(self.training, gradient=stack.gradient())
            start = stack.start(begin)
            rows, losses = train_stacked(self.network, start, stack.codes, stack.nodes, training, streams)
            return list(zip(stack.trained(rows), losses, strict=True))

        return self._in_stacks(shared, nodes, private, train)

    def _personal(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[tuple[Own, Trained]]:
        """The start of each node, and its own numbers after personalisation."""
        begin, level = shared.arrays["parameters"], self.node_level

        def tune(stack: DeepStack) -> list[Trained]:
            training = replace(level.training, gradient=stack.gradient())
            rows = stack.start(begin)
            if self.network.user_size:
                users = replace(training, gradient=stack.gradient(items_too=False), only=slice(0, 0))
                streams = Streams(self.seed, 0, "users' vectors")
                rows, _ = train_stacked(self.network, rows, stack.codes, stack.nodes, users, streams)
            if level.how == "head":
                training = replace(training, gradient=stack.gradient(items_too=False))
            how = replace(level, training=training)
            personal = personalise_nodes(self.network, train_stacked, rows, stack.codes, stack.nodes, how, self.seed)
            return stack.trained(personal)

        return self._in_stacks(shared, nodes, private, tune)

    def _in_stacks(
        self,
        shared: SharedModel,
        nodes: Sequence[Node],
        private: Sequence[PrivateState | None],
        work: Callable[[DeepStack], Sequence[Result]],
    ) -> list[tuple[Own, Result]]:
        """The start of each node and the result of the work on its stack, in the order of the nodes."""
        owns = [self._own(shared, node, state) for node, state in zip(nodes, private, strict=True)]
        stacks = stacks_of(row_counts(nodes), self.threads)

        def of(places: np.ndarray) -> Sequence[Result]:
            here, own = [nodes[place] for place in places], [owns[place] for place in places]
            return work(DeepStack(self.network, self.features, self.steps, here, own))

        found: dict[int, Result] = {}
        for places, results in zip(stacks, in_order(of, stacks, self.threads), strict=True):
            found.update(zip(places.tolist(), results, strict=True))
        return [(own, found[place]) for place, own in enumerate(owns)]


def deepened(plain: FederatedAveraging, settings: Settings) -> DeepAveraging:
    """The same training of the settings' deep network."""
    model, features = settings.model, plain.features.shape[1] if settings.model.item_features == "use" else 0
    network = DeepNetwork(
        features,
        (model.hidden[0],) * model.depth if model.depth else model.hidden,
        model.dropout,
        residual=model.depth > 0,
        item_size=model.item_vector_size,
        user_size=model.user_vector_size,
    )
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    steps = VectorSteps(model.vector_rate, model.vector_penalty)
    return DeepAveraging(
        **{**same, "predictor": network},
        steps=steps,
        threshold=settings.factors.min_raters,
        threads=settings.training.threads,
    )


def _vector_names(arrays: Mapping[str, Tensor]) -> list[str]:
    return [name for name in ("item_vectors", "raters") if name in arrays]


def _near(sent: Sent) -> str:
    """The check that no item's vector moves further than a node may move it."""
    rows = sent["item_rows"]
    slack = rows.new_tensor(sent["item_change"].shape[1]).sqrt() * (1 + LARGEST_ITEM_CHANGE) * sent.error
    most = LARGEST_ITEM_CHANGE * rows * (1 + ROUNDING) + slack
    beyond = torch.linalg.vector_norm(sent["item_change"], dim=1) > most
    return "item_change moves an item further than a node may move it" if beyond.any() else ""
