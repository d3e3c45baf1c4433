"""The same network without a federation: trained on each node alone, and on all rows in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.method import RivalErrors, RivalRows
from hierfed.methods.averaging.averaging import FederatedAveraging


def train_without_federation(method: FederatedAveraging, rows: RivalRows) -> RivalErrors:
    """Train every node by itself, and one network on all rows.

    Each makes as many steps as a node of the federation. Personalisation nodes may hold more rows or fewer, so they
    train for the number of rounds that comes nearest. The network on all rows takes batches of the size of all nodes'
    together. On the test rows, local_only is the mean over the federated nodes' squared errors. On the held-out rows,
    each personalisation node is judged on its own.
    """
    nodes, personal_nodes, rounds = rows.nodes, rows.personal_nodes, rows.rounds
    size, personal_size = (sum(len(node.train) for node in group) / len(group) for group in (nodes, personal_nodes))
    pooled_training = replace(method.training, batch_size=method.training.batch_size * len(nodes))
    pooled_node = Node(0, "pooled", rows.train, rows.train.take(np.empty(0, np.int64)))

    def squares(row: Tensor, judged: Ratings) -> np.ndarray:
        prediction = method.rate(row, torch.from_numpy(judged.item).long())
        squared: np.ndarray = np.square(prediction.numpy() - judged.value)
        return squared

    def root_mean(parts: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(np.concatenate(parts).mean()))

    personal = method.train_alone(personal_nodes, max(1, round(rounds * size / personal_size)))
    pooled = replace(method, training=pooled_training).train_alone([pooled_node], rounds)[0]
    tests, by_item = [node.test for node in personal_nodes], _RowsByItem.of(rows.test)
    local = method.train_alone(nodes, rounds)
    return RivalErrors(
        local_only=float(np.sqrt(np.mean([by_item.mean_square(method, row) for row in local]))),
        personal_local_only=root_mean([squares(*pair) for pair in zip(personal, tests, strict=True)]),
        centralised=root_mean([squares(pooled, rows.test)]),
        personal_centralised=root_mean([squares(pooled, each) for each in tests]),
    )


@dataclass(frozen=True)
class _RowsByItem:
    """Rows summarised by item, enough for a network's squared errors: it gives an item the same rating in all rows.

    items: the items that occur.
    counts, means: number and mean of each item's ratings.
    spread: sum of squares of all ratings around the means of their items.
    """

    items: Tensor
    counts: np.ndarray
    means: np.ndarray
    spread: float

    @classmethod
    def of(cls, rows: Ratings) -> _RowsByItem:
        items, place = np.unique(rows.item, return_inverse=True)
        counts = np.bincount(place).astype(np.float64)
        means = np.bincount(place, rows.value) / counts
        spread = float(np.square(rows.value - means[place]).sum())
        return cls(torch.from_numpy(items).long(), counts, means, spread)

    def mean_square(self, method: FederatedAveraging, parameters: Tensor) -> float:
        """Mean squared error on the rows.

        It is computed by item, since each of up to 100,000 nodes is judged on all rows.
        """
        off = method.rate(parameters, self.items).numpy() - self.means
        return float((self.counts @ np.square(off) + self.spread) / self.counts.sum())
