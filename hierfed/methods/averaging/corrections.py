"""Federated averaging that corrects what many local steps on one node's rows lead astray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.federated.checks import Check, not_negative, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change, short


@dataclass(frozen=True)
class NodeVector(PrivateState):
    """The vector that a node keeps between rounds: its control variate, its gradient, or parameters of its own."""

    vector: Tensor

    def kept(self) -> dict[str, Tensor]:
        """See PrivateState."""
        return {"vector": self.vector}


@dataclass(frozen=True)
class NormalisedAveraging(FederatedAveraging):
    """FedNova: the mean of changes per local step, times the mean number of steps.

        x = x + (sum_k p_k a_k) (sum_k p_k change_k / a_k),   p_k = n_k / sum n

    a_k: node k's local steps; with SGD and a proximal term m it is (1 - (1 - rate m)^steps) / (rate m).

    Source: Wang et al., Tackling the Objective Inconsistency Problem, NeurIPS 2020, arXiv:2007.07481.
    """

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """The plain contribution with n change / a in the place of n change, and n a; see Method."""
        for node, (plain, _) in zip(nodes, super().contribute(shared, nodes, private), strict=True):
            if "change" in plain.arrays:
                arrays, steps = plain.arrays, self._steps(len(node.train))
                sent = {**arrays, "change": arrays["change"] / steps, "steps": arrays["rows"] * steps}
                plain = Contribution(sent)  # noqa: PLW2901 - the other rounds send it as it is
            yield plain, None

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See Method."""
        if "change" not in total.arrays:
            return super().combine(shared, total)
        arrays = total.arrays
        change = arrays["change"] * (arrays["steps"] / arrays["rows"])
        return super().combine(shared, Contribution({**arrays, "change": change}))

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The plain checks; no node makes more local steps than its rows ask for. See Method."""
        plain = super().checks(shared)
        if shared.round + 1 == 0:
            return plain
        steps = within("steps", lambda sent: sent["rows"] * self._steps(int(sent["rows"].round().item())))
        return *plain, not_negative("steps"), steps

    def _steps(self, rows: int) -> float:
        training, steps = self.training, self.training.steps(rows)
        decay = training.learning_rate * training.proximal if training.optimizer == "sgd" else 0.0
        return (1 - (1 - decay) ** steps) / decay if decay else float(steps)


@dataclass(frozen=True)
class ScaffoldAveraging(FederatedAveraging):
    """SCAFFOLD: local SGD with control variates, c_k at each node and their mean c at the server.

        y = y - rate (g_k(y) - c_k + c),   c_k' = c_k - c - (y - x) / (steps rate),
        x = x + sum_k p_k (y_k - x),   c = c + share sum_k p_k (c_k' - c_k),   p_k = n_k / sum n

    Source: Karimireddy et al., ICML 2020, arXiv:1910.06378, option II, with nodes weighted by rows.

    share: of the nodes that take part in a round.
    """

    share: float = 1.0

    def start(self) -> SharedModel:
        """The plain start, with c = 0; see Method."""
        return _with(super().start(), control=torch.zeros(self.predictor.parameter_count, dtype=torch.float64))

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The plain contribution and n (c_k' - c_k); the node keeps c_k'. See Method."""
        if shared.round + 1 == 0:
            yield from super().contribute(shared, nodes, private)
            return
        server = shared.arrays["control"]
        own = [_vector(kept, server) for kept in private]
        corrections = {node.number: server - each for node, each in zip(nodes, own, strict=True)}
        changes = self.local_changes(shared, nodes, self.trainer, corrections)
        for node, before, (change, losses) in zip(nodes, own, changes, strict=True):
            moved = -server - change / (self.training.steps(len(node.train)) * self.training.learning_rate)
            sent = sums_of(len(node.train), change=change, loss=losses, control=moved)
            yield sent, NodeVector(before + moved)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """The plain checks; a control variate moves by no more than the parameters do in one step. See Method."""
        plain = super().checks(shared)
        if shared.round + 1 == 0:
            return plain
        server = float(torch.linalg.vector_norm(shared.arrays["control"]))
        most = server + largest_change(shared.arrays["parameters"]) / self.training.learning_rate
        return *plain, short("control", most)

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See Method."""
        control = shared.arrays["control"]
        if "change" in total.arrays:
            control = control + self.share * total.arrays["control"] / total.arrays["rows"]
        return _with(super().combine(shared, total), control=control)


@dataclass(frozen=True)
class DynamicAveraging(FederatedAveraging):
    """FedDyn: each node's loss gets a linear term, so that its optimum becomes the federation's.

        node:    minimise L_k(y) - h_k . y + a/2 |y - x|^2,   h_k = h_k - a (y_k - x)
        server:  h = h - a share sum_k p_k (y_k - x),   x = x + sum_k p_k (y_k - x) - h / a,   p_k = n_k / sum n

    Source: Acar et al., ICLR 2021, arXiv:2111.04263, with nodes weighted by rows.

    a: the training's `proximal`. share: of the nodes that take part in a round.
    """

    DRIFT: ClassVar[str] = "drift"
    share: float = 1.0

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The plain contribution, from the loss with the linear term; the node keeps h_k. See Method."""
        if shared.round + 1 == 0:
            yield from super().contribute(shared, nodes, private)
            return
        zero = torch.zeros(self.predictor.parameter_count, dtype=torch.float64)
        own = [_vector(kept, zero) for kept in private]
        corrections = {node.number: -each for node, each in zip(nodes, own, strict=True)}
        changes = self.local_changes(shared, nodes, self.trainer, corrections)
        for node, before, (change, losses) in zip(nodes, own, changes, strict=True):
            kept = NodeVector(before - self.training.proximal * change)
            yield sums_of(len(node.train), change=change, loss=losses), kept

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See Method."""
        if "change" not in total.arrays:
            return super().combine(shared, total)
        strength, arrays = self.training.proximal, total.arrays
        mean = arrays["change"] / arrays["rows"]
        drift = shared.server.get(self.DRIFT, torch.zeros_like(mean)) - strength * self.share * mean
        change = arrays["change"] - arrays["rows"] * drift / strength
        moved = super().combine(shared, Contribution({**arrays, "change": change}))
        return replace(moved, server={**moved.server, self.DRIFT: drift})


def corrected(plain: FederatedAveraging, correction: str, participation: float, nodes: int) -> FederatedAveraging:
    """The same training with this correction, one of training.correction other than `none`.

    participation: the share of the nodes that take part in a round, or above 1 their number.
    """
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    if correction == "nova":
        return NormalisedAveraging(**same)
    share = participation if participation <= 1 else participation / nodes
    return {"scaffold": ScaffoldAveraging, "dyn": DynamicAveraging}[correction](**same, share=share)


def _vector(kept: PrivateState | None, at_first: Tensor) -> Tensor:
    """What a node kept; zeros like `at_first` before its first round."""
    return torch.zeros_like(at_first) if kept is None else kept.kept()["vector"]


def sums_of(rows: int, **means: Tensor) -> Contribution:
    """A contribution of a node's rows and of their number times each mean."""
    count = torch.tensor([rows], dtype=torch.float64)
    return Contribution({"rows": count, **{name: count * mean for name, mean in means.items()}})


def _with(shared: SharedModel, **arrays: Tensor) -> SharedModel:
    return SharedModel({**shared.arrays, **arrays}, shared.round, server=shared.server)
