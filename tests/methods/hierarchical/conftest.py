"""Small hierarchical models with random beliefs, and expectations that follow from means and covariances alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.rows import UserRows, arrange
from hierfed.methods.hierarchical.users import Evidence, Users, evidence, item_moments, prepare
from hierfed.models.symmetric import pack, unpack

SLOPES, COVARIATES, CONTENT = 2, 3, 3


def random_covariances(rng: np.random.Generator, count: int, size: int, scale: float = 0.3) -> np.ndarray:
    """Positive definite matrices [count, size, size] without any structure."""
    roots = rng.normal(0, 1, (count, size, size + 2))
    return scale * (roots @ roots.transpose(0, 2, 1) / (size + 2) + 0.1 * np.eye(size))


@dataclass(frozen=True)
class Problem:
    """Ratings of some users and a model of them. user, item, value: the rows, users and items as places, user after
    user."""

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    design: Design
    features: Tensor
    beliefs: Beliefs
    users: Users

    @property
    def size(self) -> int:
        """Entries of (b_i, q_i)."""
        return 1 + self.beliefs.rank

    @property
    def weights(self) -> int:
        """Entries of z_u."""
        return len(self.beliefs.user_spread)

    def evidence(self, beliefs: Beliefs | None = None) -> Evidence:
        """What these beliefs, or the problem's own, and the ratings say of the users."""
        return evidence(item_moments(beliefs or self.beliefs, self.design), self.users)

    def users_alone(self, chosen: list[int]) -> Users:
        """These users without the others."""
        mine = np.isin(self.user, chosen)
        value = torch.from_numpy(self.value[mine])
        rows = arrange(self.user[mine], self.item[mine], value, self.design.padded_content, self.design.shared)
        return prepare(rows, self.design)

    def among_shared(self, rows: UserRows, sums: Tensor) -> Tensor:
        """Sums of the shared items that these users have rated, among zeros for all other shared items."""
        every = sums.new_zeros(len(self.design.shared_items), sums.shape[1])
        return every.index_add_(0, rows.sent, sums)

    def rows_of(self, user: int) -> list[tuple[int, float]]:
        """Item and rating of each of the user's rows."""
        mine = self.user == user
        return list(zip(self.item[mine].tolist(), self.value[mine].tolist(), strict=True))

    def item_posterior(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of (b_i, q_i)."""
        covariance = unpack(self.beliefs.item_covariance[item], self.size)
        return self.beliefs.item_mean[item].numpy(), covariance.numpy()

    def vector(self, item: int, factors: np.ndarray) -> np.ndarray:
        """x_i = (1, q_i, f_i) for these factors q_i."""
        return np.concatenate([[1.0], factors, self.design.slopes[item].numpy()])


def random_rows(rng: np.random.Generator, users: int, items: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs without repeats, user after user, the items of each in random order; every user and every item has at
    least one."""
    chosen = rng.random((users, items)) < density
    chosen[np.arange(users), rng.integers(items, size=users)] = True
    chosen[rng.integers(users, size=items), np.arange(items)] = True
    user, item = np.nonzero(chosen)
    order = rng.permutation(len(user))
    order = order[np.argsort(user[order], kind="stable")]
    return user[order], item[order]


def random_design(rng: np.random.Generator, raters: np.ndarray, threshold: int, slopes: int = SLOPES) -> Design:
    items = len(raters)
    content = np.column_stack([np.ones(items), rng.normal(0, 1, (items, CONTENT - 1))])
    return Design(
        raters=torch.from_numpy(np.where(raters >= threshold, raters, threshold / 2)).double(),
        shared=torch.from_numpy(raters >= max(threshold, 1)).double(),
        slopes=torch.from_numpy(rng.normal(0, 1, (items, slopes))),
        slope_variances=torch.full((slopes,), 0.02, dtype=torch.float64),
        covariates=torch.from_numpy(rng.normal(0, 1, (items, COVARIATES))),
        content=torch.from_numpy(content),
        traits=torch.from_numpy(content),
    )


def random_beliefs(rng: np.random.Generator, items: int, rank: int, features: int, slopes: int) -> Beliefs:
    size, weights = 1 + rank, 1 + rank + slopes

    def normal(scale: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(0, scale, shape))

    return Beliefs(
        item_mean=normal(0.6, items, size),
        item_covariance=pack(torch.from_numpy(random_covariances(rng, items, size))),
        item_weights=normal(0.3, features, size),
        item_spread=torch.from_numpy(random_covariances(rng, 1, size)[0]),
        covariate_weights=normal(0.2, 1 + COVARIATES + rank, weights),
        user_spread=torch.from_numpy(random_covariances(rng, 1, weights)[0]),
        precision=torch.tensor([1.7], dtype=torch.float64),
        node_variance=torch.from_numpy(rng.uniform(0, 0.2, weights)),
    )


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    """A problem of few users and items with random beliefs, the same for the same arguments."""

    def make(
        seed: int = 0,
        users: int = 6,
        items: int = 7,
        rank: int = 2,
        density: float = 0.5,
        threshold: int = 0,
        slopes: int = SLOPES,
    ) -> Problem:
        rng = np.random.default_rng([seed, users, items, rank, threshold])
        user, item = random_rows(rng, users, items, density)
        value = rng.normal(0, 1, len(user))
        design = random_design(rng, np.bincount(item, minlength=items), threshold, slopes)
        beliefs = random_beliefs(rng, items, rank, CONTENT, slopes)
        rows = arrange(user, item, torch.from_numpy(value), design.padded_content, design.shared)
        return Problem(user, item, value, design, design.content, beliefs, prepare(rows, design))

    return make


@pytest.fixture(scope="session")
def sigma_points() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Points [2 n, n] of equal weight with exactly this mean and covariance.

    Any expectation of a polynomial of degree 2 is the mean over them.
    """

    def points(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        steps = np.linalg.cholesky(covariance + 1e-300 * np.eye(len(mean))) * np.sqrt(len(mean))
        return np.concatenate([mean + steps.T, mean - steps.T])

    return points
