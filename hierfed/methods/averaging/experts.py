"""Federated averaging of several networks, experts, among which every node chooses by a gate of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import ROUNDING, Check, Sent, counts, not_negative, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Restorer, RivalErrors, RivalRows
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change
from hierfed.methods.averaging.expert_models import PersonalMixture, restored_mixture
from hierfed.methods.averaging.gates import GATES, Gate, GateState, Gating, responsibilities
from hierfed.methods.averaging.gradients import MakeGradient, StackedGradient, gradient_of
from hierfed.methods.averaging.network import Predictor, last_hidden
from hierfed.methods.averaging.node_level import personalise_nodes
from hierfed.methods.averaging.training import LocalTraining, Streams
from hierfed.methods.averaging.user_level import fit_user_heads
from hierfed.privacy.clipping import clip_rows
from hierfed.randomness import stream_keys

if TYPE_CHECKING:
    from hierfed.settings import Settings


@dataclass(frozen=True)
class ExpertsAveraging(FederatedAveraging):
    """Federated averaging of K experts x_1 .. x_K; node k trains those that its gate asks for.

        x_j <- x_j + sum_k w_kj (x_kj - x_j) / sum_k w_kj

    x_kj: expert j after local training at node k on the rows' errors, each weighed by the row's responsibility r_ij.
    The rule says what the gate asks for, r_ij and w_kj; see gates. An expert that nobody asked for stays as it is. All
    pairs of a node and an expert are rows of one stack. A node's model is the mixture of its experts by its gate.

    With one expert it is federated averaging to the bit.

    count: K. gating: the rule. In a message `change` is [K, parameters], and zero for experts that were not trained.
    """

    count: int
    gating: Gating

    def start(self) -> SharedModel:
        """Experts that begin at different random parameters; see Method."""
        seeds = [int(key) >> 1 for key in stream_keys(self.seed, 0, np.arange(self.count), "experts")]
        first = [self.predictor.initial(self.seed if number == 0 else seed) for number, seed in enumerate(seeds)]
        arrays = {"parameters": torch.stack(first).to(self.features.dtype), **self._nobody_asked()}
        return SharedModel(arrays, round=-1 if self.start_at_mean else 0)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """w_kj (x_kj - x_j) of each expert, w_kj, and which were asked for; the node keeps its gate. See Method."""
        if shared.round + 1 == 0:
            yield from super().contribute(shared, nodes, private)
            return
        begin, streams = shared.arrays["parameters"], Streams(self.seed, shared.round + 1, "training")
        gates = [self._gate(shared, node, state) for node, state in zip(nodes, private, strict=True)]
        trained = self._train(begin, nodes, gates, self.training, streams)
        for node, gate, (local, losses) in zip(nodes, gates, trained, strict=True):
            rows = float(len(node.train))
            weights, change = torch.zeros(self.count).double(), torch.zeros(begin.shape).double()
            weights[gate.asked] = gate.weights
            for row, expert, weight in zip(local, gate.asked.tolist(), gate.weights, strict=True):
                start = begin[expert].double()
                change[expert] = weight * clip_rows((row.double() - start)[None], largest_change(begin[expert]))[0]
            asked = torch.zeros(self.count).double()
            asked[gate.asked] = 1.0
            sent = {
                "change": change,
                "rows": torch.tensor([rows], dtype=torch.float64),
                "loss": rows * (gate.shares[:, None] * losses).sum(0),
                "weights": weights,
                "asked": asked,
            }
            yield Contribution(sent), gate.state

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See Method."""
        arrays, experts = total.arrays, shared.arrays["parameters"].double()
        if "ratings" in arrays:
            mean = (arrays["ratings"] / arrays["rows"]).item()
            experts[:, self.predictor.head.stop - 1] = self.training.scale.learned(mean)
            moved = {"parameters": experts.to(self.features.dtype), **self._nobody_asked()}
            return SharedModel(moved, shared.round + 1)
        weights = arrays["weights"]
        mean_change = arrays["change"] / torch.where(weights > 0, weights, 1.0)[:, None]
        moved = {
            "parameters": (experts + mean_change).to(self.features.dtype),
            "asked": arrays["asked"],
            "share": weights / weights.sum(),
        }
        return SharedModel(moved, shared.round + 1)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """As of FederatedAveraging, for each expert; see Method."""
        if shared.round + 1 == 0:
            return super().checks(replace(shared, arrays={"parameters": shared.arrays["parameters"][0]}))
        most = torch.tensor([largest_change(row) for row in shared.arrays["parameters"]], dtype=torch.float64)

        def short(sent: Sent) -> str:
            length = sent["change"].shape[1] ** 0.5
            allowed = most * sent["weights"] * (1 + ROUNDING) + length * (1 + most) * sent.error
            beyond = torch.linalg.vector_norm(sent["change"], dim=1) > allowed
            return "change moves an expert further than a node may move it" if beyond.any() else ""

        return (
            counts("rows", "asked"),
            not_negative("loss", "weights"),
            within("weights", lambda sent: sent["rows"]),
            short,
        )

    def train_alone(self, nodes: Sequence[Node], rounds: int) -> Tensor:
        """Nothing: experts have no sense on one node alone."""
        raise NotImplementedError

    def rivals(self, rows: RivalRows) -> RivalErrors:
        """None: experts are compared with other methods by their benchmark; see Method."""
        return RivalErrors()

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """The mixture of the experts by how much the nodes leaned on each in the last round; see Method."""
        return self._newcomer(shared).predict(ratings)

    def named(self, shared: SharedModel) -> dict[str, Tensor]:
        """The arrays as they are: each row of `parameters` is an expert. See Method."""
        return dict(shared.arrays)

    def from_named(self, tensors: Mapping[str, Tensor], finished_round: int) -> SharedModel:
        """See Method."""
        return SharedModel(dict(tensors), finished_round)

    def notes(self, shared: SharedModel) -> list[str]:
        """Experts that nobody asked for in the last round; see Method."""
        asked = shared.arrays["asked"] > 0
        left = [str(number) for number, found in enumerate(asked.tolist(), 1) if not found]
        if not left or shared.round < 1:
            return []
        alone = "; so this is one network: take fewer experts" if len(left) == self.count - 1 else ""
        which = "expert" if len(left) == 1 else "experts"
        return [f"nobody asked for {which} {', '.join(left)} of {self.count} in the last round{alone}"]

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        newcomer = self._newcomer(shared)
        return lambda kept: restored_mixture(newcomer, kept)

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalModel]:
        """The experts that each node's gate asks for, made its own by the node level, and users' heads; see Method.

        Heads are on the hidden layer of the expert that weighs most.
        """
        known = [state or self._first_look(shared, node) for node, state in zip(nodes, private, strict=True)]
        gates = [self._gate(shared, node, state) for node, state in zip(nodes, known, strict=True)]
        level, begin = self.node_level, shared.arrays["parameters"]
        rows = [begin[gate.asked[gate.shares > 0]] for gate in gates]
        if level.how != "none":
            rows = [found for found, _ in self._train(begin, nodes, gates, level.training, None)]
        models: list[PersonalModel] = []
        for node, gate, experts in zip(nodes, gates, rows, strict=True):
            shares = gate.shares[gate.shares > 0]
            mixture = PersonalMixture(self.predictor, self.features, experts, shares, self.training.scale, node.train)
            if self.user_level.heads:
                item = torch.from_numpy(node.train.item).long()
                hidden = last_hidden(self.predictor, mixture.leading, self.features, item)
                heads = fit_user_heads(node.train, mixture.predict(node.train), hidden, self.user_level)
                mixture = replace(mixture, heads=heads)
            models.append(mixture)
        return models

    def _gate(self, shared: SharedModel, node: Node, state: PrivateState | None) -> Gate:
        return self.gating(self.errors(shared.arrays["parameters"], node), state, self.seed, node.number)

    def _first_look(self, shared: SharedModel, node: Node) -> GateState:
        """The gate of a node that took part in no round: it looks at all experts once."""
        alike = torch.full((self.count,), 1 / self.count, dtype=torch.float64)
        found = responsibilities(self.errors(shared.arrays["parameters"], node), alike)
        return GateState(found.mean(1), torch.zeros(self.count, dtype=torch.int64))

    def errors(self, experts: Tensor, node: Node) -> Tensor:
        """The experts' errors on a node's rows, on the scale that networks learn on: float64 [experts, rows]."""
        items, place = np.unique(node.train.item, return_inverse=True)
        inputs = self.features[torch.from_numpy(items).long()]
        with torch.no_grad():
            found = torch.stack([self.predictor.predict(row, inputs).double() for row in experts])
        value = torch.from_numpy(self.training.scale.learned(node.train.value.astype(np.float64)))
        return found[:, torch.from_numpy(place)] - value

    def _train(
        self,
        begin: Tensor,
        nodes: Sequence[Node],
        gates: Sequence[Gate],
        training: LocalTraining,
        streams: Streams | None,
    ) -> list[tuple[Tensor, Tensor]]:
        """For each node, its experts after training, [asked, parameters], and their losses, [asked, epochs].

        streams: of a round; None to personalise by the node level.
        """
        pairs, codes, weights, start, first = [], [], [], [], 0
        for node, gate in zip(nodes, gates, strict=True):
            for row, expert in enumerate(gate.asked.tolist()):
                if gate.shares[row] == 0:
                    continue
                places = np.arange(first, first + len(node.train), dtype=np.int32)
                first += len(places)
                train = Ratings(node.train.user, places, node.train.value)
                pairs.append(Node(node.number, node.name, train, train.between(0, 0)))
                codes.append(torch.from_numpy(node.train.item).to(begin.dtype))
                weights.append(gate.responsibility[row].to(begin.dtype))
                start.append(begin[expert])
        coded = torch.stack([torch.cat(codes), torch.cat(weights)], 1)
        weighed = replace(training, gradient=of_weighed_rows(self.features))
        rows, losses = torch.stack(start), torch.zeros(len(pairs), training.epochs).double()
        if streams is not None:
            rows, losses = self.trainer(self.predictor, rows, coded, pairs, weighed, streams)
        else:
            how = replace(self.node_level, training=weighed)
            rows = personalise_nodes(self.predictor, self.trainer, rows, coded, pairs, how, self.seed)
        trained = [int((gate.shares > 0).sum()) for gate in gates]
        found = list(zip(torch.split(rows, trained), torch.split(losses, trained), strict=True))
        return [
            self._with_untrained(begin, gate, *each) if streams else each
            for gate, each in zip(gates, found, strict=True)
        ]

    @staticmethod
    def _with_untrained(begin: Tensor, gate: Gate, rows: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The same with the experts that were asked for and not trained, as they were."""
        every, lost = begin[gate.asked].clone(), losses.new_zeros(len(gate.asked), losses.shape[1])
        every[gate.shares > 0], lost[gate.shares > 0] = rows, losses
        return every, lost

    def _newcomer(self, shared: SharedModel) -> PersonalMixture:
        """The mixture of somebody without ratings."""
        nothing = Ratings(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0))
        arrays = shared.arrays
        return PersonalMixture(
            self.predictor, self.features, arrays["parameters"], arrays["share"], self.training.scale, nothing
        )

    def _nobody_asked(self) -> dict[str, Tensor]:
        none = torch.zeros(self.count, dtype=torch.float64)
        return {"asked": none, "share": torch.full_like(none, 1 / self.count)}


def of_weighed_rows(features: Tensor) -> MakeGradient:
    """The gradient of the mean of weighed squared errors, for inputs (item, weight) in the place of features."""

    def make(predictor: Predictor, parameters: Tensor, gradient: Tensor, batch: int) -> StackedGradient:
        plain = gradient_of(predictor, parameters, gradient, batch)

        def compute(inputs: Tensor, target: Tensor, scale: Tensor, keep: Tensor | None, errors: Tensor) -> None:
            gathered = features.index_select(0, inputs[:, :, 0].long().view(-1)).view(*target.shape, -1)
            plain(gathered, target, scale * inputs[:, :, 1], keep, errors)

        return compute

    return make


def with_experts(plain: FederatedAveraging, settings: Settings) -> ExpertsAveraging:
    """The same training of model.experts networks."""
    model = settings.model
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    return ExpertsAveraging(**same, count=model.experts, gating=GATES[model.gate](model.experts_per_node))
