"""Federated averaging whose nodes train a model of their own beside the shared one, or from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState
from hierfed.federated.settings import TrainingSettings
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change
from hierfed.methods.averaging.corrections import NodeVector, sums_of
from hierfed.methods.averaging.own_gradients import after_a_step, of_envelopes, of_mixtures, of_weights
from hierfed.methods.averaging.training import LocalTraining, Streams, turn_streams
from hierfed.privacy.clipping import clip_rows


@dataclass(frozen=True)
class OwnModelAveraging(FederatedAveraging):
    """Federated averaging where node k keeps a model v_k between rounds; its base class.

    What the server gets is FedAvg's: n_k (x_k - x), with x_k the node's copy of the shared model x after its steps. v_k
    is the node's private state, begins as x, and is what personalisation starts from.

    own_strength, own_rate, own_steps: the settings of these names; `strength`, `rate` and `steps` in the equations.
    """

    own_strength: float
    own_rate: float
    own_steps: int

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The plain contribution; the node keeps its own model. See Method."""
        if shared.round + 1 == 0:
            yield from super().contribute(shared, nodes, private)
            return
        begin = shared.arrays["parameters"]
        most = largest_change(begin)
        local, kept, losses = self.train(shared, nodes, private)
        for node, row, state, loss in zip(nodes, local, kept, losses, strict=True):
            (change,) = clip_rows((row.double() - begin.double())[None], most)
            yield sums_of(len(node.train), change=change, loss=loss), state

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """The nodes' x_k, [nodes, parameters], what each keeps, and the losses, [nodes, epochs]."""
        raise NotImplementedError

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """Each node's own model, [nodes, parameters]; the shared one where a node has none. See FederatedAveraging."""
        return self._kept(shared, private)

    def _kept(self, shared: SharedModel, private: Sequence[PrivateState | None]) -> Tensor:
        begin = shared.arrays["parameters"]
        return torch.stack([begin if state is None else state.kept()["vector"] for state in private])

    def _run(
        self, shared: SharedModel, start: Tensor, nodes: Sequence[Node], training: LocalTraining, turn: int = 0
    ) -> tuple[Tensor, Tensor]:
        streams = turn_streams(self.seed, shared.round + 1, "training", turn)
        return self.trainer(self.predictor, start, self.features, nodes, training, streams)

    def _copies(self, shared: SharedModel, nodes: Sequence[Node]) -> Tensor:
        return shared.arrays["parameters"].expand(len(nodes), -1)


@dataclass(frozen=True)
class DittoAveraging(OwnModelAveraging):
    """Ditto: v_k minimises f_k(v) + strength / 2 |v - x|^2 for the shared model x of the round, by local epochs of
    steps of size `rate`, v <- v - rate (f_k'(v) + strength (v - x)).

    A step evaluates two gradients, one for x and one for v.

    Source: Li et al., Ditto, ICML 2021, arXiv:2012.04221, algorithm 1.
    """

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """See OwnModelAveraging."""
        copies, own = self._copies(shared, nodes), self._kept(shared, private)
        local, losses = self._run(shared, copies, nodes, self.training)
        # The trainer pulls towards where it starts; the rest of the pull towards x is the same at every step.
        pull = self.own_strength * (own - copies)
        corrections = {node.number: row for node, row in zip(nodes, pull, strict=True)}
        training = replace(
            self.training, learning_rate=self.own_rate, proximal=self.own_strength, corrections=corrections
        )
        own, _ = self._run(shared, own, nodes, training, turn=1)
        return local, [NodeVector(row.clone()) for row in own], losses


@dataclass(frozen=True)
class MixtureAveraging(OwnModelAveraging):
    """APFL: node k uses alpha v_k + (1 - alpha) x, and trains v_k and its x_k side by side on the same batches.

        x_k <- x_k - rate f_k'(x_k),   v_k <- v_k - rate alpha f_k'(alpha v_k + (1 - alpha) x_k)

    alpha: the strength, the same at all nodes and rounds. rate: training.learning_rate. A step evaluates two gradients.

    Source: Deng, Kamani and Mahdavi, 2020, arXiv:2003.13461, algorithm 1.
    """

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """See OwnModelAveraging."""
        start = torch.cat([self._copies(shared, nodes), self._kept(shared, private)], 1)
        both, losses = self._run(shared, start, nodes, replace(self.training, gradient=of_mixtures(self.own_strength)))
        local, own = both.chunk(2, 1)
        return local, [NodeVector(row.clone()) for row in own], losses

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """The mixtures alpha v_k + (1 - alpha) x, [nodes, parameters]; see OwnModelAveraging."""
        return torch.lerp(self._copies(shared, nodes), self._kept(shared, private), self.own_strength)


@dataclass(frozen=True)
class EnvelopeAveraging(OwnModelAveraging):
    """pFedMe: the shared model descends the Moreau envelopes of the nodes' losses.

        v_k <- argmin_v f_k(v) + strength / 2 |v - x_k|^2,   x_k <- x_k - learning_rate strength (x_k - v_k)

    On each batch v_k takes `steps` steps of size `rate` towards its minimum, from where it was; see
    own_gradients.of_envelopes. A step of x_k evaluates so many gradients. The losses are those of v_k. The server's
    step, the paper's beta, is federation.server_learning_rate where an optimizer is set.

    Source: Dinh, Tran and Nguyen, NeurIPS 2020, arXiv:2006.08848, algorithm 1.
    """

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """See OwnModelAveraging."""
        start = torch.cat([self._copies(shared, nodes), self._kept(shared, private)], 1)
        gradient = of_envelopes(self.own_strength, self.own_rate, self.own_steps)
        both, losses = self._run(shared, start, nodes, replace(self.training, gradient=gradient))
        local, own = both.chunk(2, 1)
        return local, [NodeVector(row.clone()) for row in own], losses


@dataclass(frozen=True)
class MetaAveraging(OwnModelAveraging):
    """Per-FedAvg of first order: the shared model is one that a step of size `rate` makes a node's own.

        x_k <- x_k - learning_rate f_k'(x_k - rate f_k'(x_k)),   v_k = x - rate f_k'(x) on all rows of the node

    Both gradients are of the same batch; the paper's are of two. A step evaluates two gradients. Nodes keep nothing,
    since v_k follows from the shared model. The losses are those after the step.

    Source: Fallah, Mokhtari and Ozdaglar, NeurIPS 2020, arXiv:2002.07948, algorithm 1, FO.
    """

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """See OwnModelAveraging."""
        training = replace(self.training, gradient=after_a_step(self.own_rate))
        local, losses = self._run(shared, self._copies(shared, nodes), nodes, training)
        return local, [None] * len(nodes), losses

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """The shared model after one step on each node's rows, [nodes, parameters]; see OwnModelAveraging."""
        rows = max(len(node.train) for node in nodes)
        step = LocalTraining(1, rows, self.own_rate, scale=self.training.scale, optimizer="sgd")
        streams = Streams(self.seed, 0, "step")
        return self.trainer(self.predictor, self._copies(shared, nodes).clone(), self.features, nodes, step, streams)[0]


@dataclass(frozen=True)
class LayeredAveraging(OwnModelAveraging):
    """FedALA: a node starts its round from a mixture of its own last model and the shared one, by weights it learns.

        start_k = v_k + W_k (x - v_k) in the output layer, and x in all others;   v_k = start_k after local training
        W_k <- W_k - rate f_k'(start_k) (x - v_k), within 0 and 1,   n_k (v_k - x) goes to the server

    W_k begins at 1 and learns for `steps` epochs of SGD each round; the paper learns it to convergence once, and on a
    part of the rows. Local training evaluates one gradient a step, and so do the steps of W_k.

    Source: Zhang et al., AAAI 2023, arXiv:2212.01197, algorithm 1, with p = 1 layer.
    """

    def train(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> tuple[Tensor, Sequence[PrivateState | None], Tensor]:
        """See OwnModelAveraging."""
        copies = self._copies(shared, nodes)
        weights, own = self._own(shared, private)
        learning = replace(
            self.training,
            epochs=self.own_steps,
            learning_rate=self.own_rate,
            optimizer="sgd",
            only=self.predictor.head,
            gradient=of_weights,
        )
        learned, _ = self._run(shared, torch.cat([weights, own, copies - own], 1), nodes, learning, turn=1)
        weights = learned.chunk(3, 1)[0].clamp(0, 1)
        start, head = copies.clone(), self.predictor.head
        start[:, head] = torch.lerp(own[:, head], copies[:, head], weights[:, head])
        local, losses = self._run(shared, start, nodes, self.training)
        return local, [NodeVector(torch.cat(pair)) for pair in zip(weights, local, strict=True)], losses

    def own_start(self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]) -> Tensor:
        """The nodes' last models; see OwnModelAveraging."""
        return self._own(shared, private)[1]

    def _own(self, shared: SharedModel, private: Sequence[PrivateState | None]) -> tuple[Tensor, Tensor]:
        begin = shared.arrays["parameters"]
        first = torch.cat([torch.ones_like(begin), begin])
        both = torch.stack([first if state is None else state.kept()["vector"] for state in private])
        weights, own = both.chunk(2, 1)
        return weights, own


OWN_MODELS: Mapping[str, type[OwnModelAveraging]] = {
    "ditto": DittoAveraging,
    "apfl": MixtureAveraging,
    "pfedme": EnvelopeAveraging,
    "per_fedavg": MetaAveraging,
    "fedala": LayeredAveraging,
}
"""The methods with models of nodes' own, by their names in training.own_model."""


def with_own_models(plain: FederatedAveraging, training: TrainingSettings) -> OwnModelAveraging:
    """The same training with nodes' own models as training.own_model says."""
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    made = OWN_MODELS[training.own_model]
    return made(**same, own_strength=training.own_strength, own_rate=training.own_rate, own_steps=training.own_steps)
