"""The figures that every federated one must stand beside, on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.evaluation.metrics import rating_errors
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.local import LocalOnly
from hierfed.models.baselines import fit_biases, fit_global_mean, fit_item_mean, fit_user_mean
from hierfed.models.network import rate


def simple_baselines(train: Ratings, test: Ratings, users: int, items: int) -> dict[str, float]:
    """RMSE on `test` of the global, item and user means and of user + item biases, fitted on `train`."""
    fits = {
        "global_mean": fit_global_mean,
        "item_mean": fit_item_mean,
        "user_mean": fit_user_mean,
        "biases": fit_biases,
    }
    return {
        name: rating_errors(fit(train, users, items).predict(test), test.value, test.user).rmse
        for name, fit in fits.items()
    }


@dataclass(frozen=True)
class TrainedAlone:
    """RMSE of the same network without a federation, on the test rows and on the personalisation users' held-out rows.

    local_only: every node learns alone; on the test rows the mean over the federated nodes' squared errors, on the
    held-out rows each personalisation node judged on its own. centralised: one network on the pooled train rows, in
    batches as large as all nodes' together, so that it makes as many steps over the same rows as the federation.
    """

    local_only: float
    personal_local_only: float
    centralised: float
    personal_centralised: float


def train_alone(
    method: FederatedAveraging,
    nodes: Sequence[Node],
    personal_nodes: Sequence[Node],
    train: Ratings,
    test: Ratings,
    rounds: int,
) -> TrainedAlone:
    """Train every node by itself, and one network on everything, for as many steps as a node of the federation.

    The personalisation nodes may hold more rows or fewer, and train for the number of rounds that comes nearest.
    """
    local = method.train_alone(nodes, rounds)
    rows, personal_rows = (sum(len(node.train) for node in group) / len(group) for group in (nodes, personal_nodes))
    personal = method.train_alone(personal_nodes, max(1, round(rounds * rows / personal_rows)))
    pooled_training = replace(method.training, batch_size=method.training.batch_size * len(nodes))
    pooled_node = Node(0, "pooled", train, train.take(np.empty(0, np.int64)))
    pooled = replace(method, training=pooled_training).train_alone([pooled_node], rounds)[0]

    def squares(row: Tensor, rows: Ratings) -> np.ndarray:
        prediction = rate(method.predictor, row, method.features, torch.from_numpy(rows.item).long())
        squared: np.ndarray = np.square(prediction.numpy() - rows.value)
        return squared

    def root_mean(parts: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(np.concatenate(parts).mean()))

    return TrainedAlone(
        local_only=root_mean([squares(row, test) for row in local]),
        personal_local_only=root_mean([squares(*pair) for pair in zip(personal, _tests(personal_nodes), strict=True)]),
        centralised=root_mean([squares(pooled, test)]),
        personal_centralised=root_mean([squares(pooled, rows) for rows in _tests(personal_nodes)]),
    )


def local_rmse(local: LocalOnly, train: Ratings, test: Ratings) -> float:
    """RMSE on `test` where each user learns alone from the own rows of `train`, and nothing is sent."""
    (model,) = local.personalise(local.start(), [Node(0, "everyone", train, test)], [None])
    user, item = (torch.from_numpy(column).long() for column in (test.user, test.item))
    return rating_errors(model.predict(user, item).numpy(), test.value, test.user).rmse


def _tests(nodes: Sequence[Node]) -> list[Ratings]:
    return [node.test for node in nodes]
