"""A mixture of kinds as the prior of users: users' shares in it, and the kinds that sums over users give.

    z_u ~ sum_k s_k N(B_k' h_u, S_k)

Part of `kinds.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.users import Evidence, Posterior

# Kinds are shrunk to all users together, by so many users for the weights, their constants, and the spreads.
WEIGHTS, CONSTANTS, SPREADS = 50.0, 5.0, 20.0


@dataclass(frozen=True)
class Kinds:
    """The mixture: shares [kinds], weights B [kinds, h, t] and spreads S [kinds, t, t]."""

    shares: Tensor
    weights: Tensor
    spreads: Tensor

    def __len__(self) -> int:
        return len(self.shares)

    @classmethod
    def alike(cls, beliefs: Beliefs, kinds: int = 1) -> "Kinds":
        """So many times the one prior."""
        even = beliefs.precision.new_full((kinds,), 1 / kinds)
        weights, spread = beliefs.covariate_weights, beliefs.user_spread
        return cls(even, weights.repeat(kinds, 1, 1), spread.repeat(kinds, 1, 1))

    def split(self, kind: int, direction: int, products: Tensor) -> "Kinds":
        """One kind as two, a standard deviation to either side along a direction in which expected ratings spread most.

        products [t, t]: the mean of x x' over ratings.
        """
        root = torch.linalg.cholesky(self.spreads[kind])
        along = root @ torch.linalg.eigh(root.T @ products @ root)[1][:, -1 - direction]
        others = [each for each in range(len(self)) if each != kind]
        two = self.weights[kind].repeat(2, 1, 1)
        two[:, 0] += torch.stack([along, -along])
        spread = (self.spreads[kind] - 0.7 * torch.outer(along, along)).repeat(2, 1, 1)
        return Kinds(
            torch.cat([self.shares[others], self.shares[kind].repeat(2) / 2]),
            torch.cat([self.weights[others], two]),
            torch.cat([self.spreads[others], spread]),
        )


def expected(kinds: Kinds, seen: Evidence, precision: Tensor) -> tuple[list[Posterior], Tensor, float]:
    """Each kind's posteriors, the users' shares in kinds [users, kinds], and the mean bound (up to a constant)."""
    found, logs, tau = [], [], precision[:, None]
    for share, weights, spread in zip(kinds.shares, kinds.weights, kinds.spreads, strict=True):
        prior, inverse = seen.covariates @ weights, torch.linalg.inv(spread)
        right = torch.addcmul(prior @ inverse, tau, seen.targets)
        root = torch.linalg.cholesky(torch.addcmul(inverse, tau[:, :, None], seen.products))
        covariance = torch.cholesky_inverse(root)
        z = torch.einsum("uab,ub->ua", covariance, right)
        traces = len(spread) - covariance.flatten(1) @ inverse.flatten()
        error = seen.squares - 2 * (z * seen.targets).sum(1) + ((z * (right - z @ inverse)).sum(1) + traces) / precision
        found.append(Posterior(z, covariance, error.clamp_min(1e-9)))
        volume = -2 * torch.diagonal(root, dim1=1, dim2=2).log().sum(1) - torch.linalg.slogdet(spread)[1]
        logs.append(share.log() + (volume + (z * right).sum(1) - ((prior @ inverse) * prior).sum(1)) / 2)
    every = torch.stack(logs, 1)
    return found, torch.softmax(every, 1), float(torch.logsumexp(every, 1).mean())


def maximised(found: Sequence[Posterior], shares: Tensor, covariates: Tensor, everyone: Beliefs) -> Kinds:
    """The kinds that these sums over users give."""
    weights, spreads = [], []
    ridge = torch.full((covariates.shape[1],), WEIGHTS, dtype=torch.float64)
    ridge[0] = CONSTANTS
    for mine, each in zip(shares.T[:, :, None], found, strict=True):
        weighted = covariates * mine
        right = weighted.T @ each.mean + ridge[:, None] * everyone.covariate_weights
        weights.append(torch.linalg.solve(weighted.T @ covariates + torch.diag(ridge), right))
        away = each.mean - covariates @ weights[-1]
        moments = (away * mine).T @ away + torch.einsum("u,uab->ab", mine[:, 0], each.covariance)
        spreads.append((moments + SPREADS * everyone.user_spread) / (mine.sum() + SPREADS))
    return Kinds((shares.sum(0) + 1) / (shares.sum() + shares.shape[1]), torch.stack(weights), torch.stack(spreads))


def collapsed(found: Sequence[Posterior], shares: Tensor) -> Posterior:
    """One posterior with the mixture's first two moments: all that the items' sums take of a user."""
    parts = list(zip(shares.T, found, strict=True))
    z = torch.stack([share[:, None] * each.mean for share, each in parts]).sum(0)
    products = torch.zeros_like(found[0].covariance)
    for share, each in parts:
        products += share[:, None, None] * (each.covariance + each.mean[:, :, None] * each.mean[:, None, :])
    error = torch.stack([share * each.squared_error for share, each in parts]).sum(0)
    return Posterior(z, products - z[:, :, None] * z[:, None, :], error)
