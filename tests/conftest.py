"""Builders that the tests of every layer share: ratings, nodes and item features, small and reproducible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings

USERS, ITEMS, FEATURES = 7, 23, 5
MakeRatings = Callable[..., Ratings]
MakeNode = Callable[..., Node]


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Torch's own threads would compete with the tests' neighbours on the same cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_ratings() -> MakeRatings:
    """Ratings of 7 users and 23 items in half stars, the same for the same rows and seed."""

    def make(rows: int, seed: int = 0) -> Ratings:
        rng = np.random.default_rng([seed, rows])
        return Ratings(
            user=rng.integers(USERS, size=rows, dtype=np.int32),
            item=rng.integers(ITEMS, size=rows, dtype=np.int32),
            value=(rng.integers(1, 11, size=rows) / 2).astype(np.float32),
            time=rng.integers(10**9, size=rows),
        )

    return make


@pytest.fixture(scope="session")
def make_node(make_ratings: MakeRatings) -> MakeNode:
    """A node with this number and these many rows to learn from."""

    def make(number: int, rows: int, seed: int = 0, test_rows: int = 0) -> Node:
        return Node(
            number,
            str(number + 1),
            make_ratings(rows, 100 * seed + number),
            make_ratings(test_rows, 100 * seed + number + 50),
        )

    return make


@pytest.fixture(scope="session")
def features() -> Tensor:
    """Standardised features of the 23 items."""
    return torch.randn(ITEMS, FEATURES, generator=torch.Generator().manual_seed(5))
