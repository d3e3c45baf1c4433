"""Gates: a node's private choice among experts, from the errors that each makes on the node's own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hierfed.federated.private import PrivateState
from hierfed.randomness import generator


@dataclass(frozen=True)
class GateState(PrivateState):
    """A node's gate between rounds.

    proportions: of the experts, float64 [experts], sum 1. asked: in how many rounds each was asked for, [experts].
    """

    proportions: Tensor
    asked: Tensor

    def kept(self) -> dict[str, Tensor]:
        """See PrivateState."""
        return {"proportions": self.proportions, "asked": self.asked}


@dataclass(frozen=True)
class Gate:
    """The choice of a gate in a round.

    asked: int64 [asked], ascending, the experts that the node downloads.
    shares: of each in the node's model, [asked], sum 1; those of share 0 are not trained.
    responsibility: of each for each row, [asked, rows].
    weights: of the node's change of each in the server's mean, [asked].
    state: for the next round.
    """

    asked: Tensor
    shares: Tensor
    responsibility: Tensor
    weights: Tensor
    state: GateState


class Gating(Protocol):
    """A rule of gates."""

    def __call__(self, errors: Tensor, kept: PrivateState | None, seed: int, node: int) -> Gate:
        """A node's gate in a round.

        errors: [experts, rows]; a rule looks at those of the experts that it asks for alone. kept: from the last round.
        """
        ...


@dataclass(frozen=True)
class HardGate:
    """IFCA: the node looks at all experts, and trains the one of the least loss on all of its rows, of which it has n.

    j_k = argmin_j f_k(x_j),   w_kj = n_k if j = j_k, else 0

    Source: Ghosh et al., NeurIPS 2020, arXiv:2006.04088, algorithm 1, option II.
    """

    per_node: int

    def __call__(self, errors: Tensor, kept: PrivateState | None, seed: int, node: int) -> Gate:
        """See Gating."""
        chosen = int(errors.square().mean(1).argmin())
        shares = torch.zeros(len(errors), dtype=torch.float64)
        shares[chosen] = 1.0
        asked = torch.arange(len(errors))
        state = GateState(shares, _before(kept, len(errors))[1] + 1)
        return Gate(asked, shares, shares[:, None].expand(errors.shape), errors.shape[1] * shares, state)


@dataclass(frozen=True)
class SoftGate:
    """FedEM: every row is of every expert, by its responsibility.

        r_ij ~ pi_kj exp(-e_ij^2 / 2),   pi_kj = mean_i r_ij,   w_kj = n_k

    e_ij: the error of expert j on row i, on a scale of half a star to five. pi begins alike.

    Source: Marfoq et al., NeurIPS 2021, arXiv:2108.10252, algorithm 1.
    """

    per_node: int

    def __call__(self, errors: Tensor, kept: PrivateState | None, seed: int, node: int) -> Gate:
        """See Gating."""
        experts, rows = errors.shape
        before, asked = _before(kept, experts)
        found = responsibilities(errors, before)
        proportions = found.mean(1)
        state = GateState(proportions, asked + 1)
        return Gate(torch.arange(experts), proportions, found, torch.full((experts,), float(rows)).double(), state)


@dataclass(frozen=True)
class PoolGate:
    """A pool: as SoftGate among the experts with the largest proportions alone; the others are not downloaded.

        r_ij ~ pi_kj exp(-e_ij^2 / 2) for j in A_k,   pi_kj = (sum_{l in A_k} pi_kl) mean_i r_ij,   w_kj = sum_i r_ij

    A_k: the per_node experts of the largest pi_kj, ties in an order that is random for each node. An expert that wins
    no rows falls below those that were never tried, so that these come next.
    """

    per_node: int

    def __call__(self, errors: Tensor, kept: PrivateState | None, seed: int, node: int) -> Gate:
        """See Gating."""
        before, times = _before(kept, len(errors))
        order = torch.from_numpy(generator(seed, 0, node, "experts").permutation(len(errors)))
        best = order[before[order].argsort(descending=True, stable=True)[: self.per_node]]
        asked = best.sort().values
        found = responsibilities(errors[asked], before[asked])
        shares, after, counted = found.mean(1), before.clone(), times.clone()
        after[asked] = before[asked].sum() * shares
        counted[asked] += 1
        return Gate(asked, shares, found, found.sum(1), GateState(after, counted))


GATES: Mapping[str, Callable[[int], Gating]] = {"ifca": HardGate, "fedem": SoftGate, "pool": PoolGate}
"""The rules of gates by their names in model.gate."""


def responsibilities(errors: Tensor, proportions: Tensor) -> Tensor:
    """Of each expert for each row, [experts, rows]: proportions times the likelihoods of errors of deviation 1."""
    return torch.softmax(proportions.log()[:, None] - errors.square() / 2, 0)


def _before(kept: PrivateState | None, experts: int) -> tuple[Tensor, Tensor]:
    """The proportions and the counts that a node kept; alike and 0 before its first round."""
    if kept is not None:
        return kept.kept()["proportions"], kept.kept()["asked"]
    return torch.full((experts,), 1 / experts, dtype=torch.float64), torch.zeros(experts, dtype=torch.int64)
