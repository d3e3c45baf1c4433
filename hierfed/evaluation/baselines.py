"""The figures that every federated one must stand beside, on the same test rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node
from hierfed.data.grouping import count, look_up
from hierfed.data.ratings import Ratings
from hierfed.evaluation.metrics import rating_errors
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.local import LocalOnly
from hierfed.models.baselines import fit_biases, fit_global_mean, fit_item_mean, fit_user_mean

# Train ratings of the users who are looked at together, but for the last one's.
_PIECE = 1 << 20


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


class Begin(Protocol):
    """Begins to train every node alone for some rounds, maybe elsewhere; see FederatedAveraging.train_alone."""

    def __call__(self, method: FederatedAveraging, nodes: Sequence[Node], rounds: int) -> Callable[[], Tensor]:
        """Give a function that waits for the nodes' parameters, [nodes, parameters]."""
        ...


def begin_here(method: FederatedAveraging, nodes: Sequence[Node], rounds: int) -> Callable[[], Tensor]:
    """Train them in this process, when their parameters are asked for; see Begin."""
    return partial(method.train_alone, nodes, rounds)


def train_alone(
    method: FederatedAveraging,
    nodes: Sequence[Node],
    personal_nodes: Sequence[Node],
    train: Ratings,
    test: Ratings,
    rounds: int,
    begin: Begin = begin_here,
) -> Callable[[], TrainedAlone]:
    """Begin to train every node by itself, and one network on everything; the function given waits for the figures.

    All make as many steps as a node of the federation. The personalisation nodes may hold more rows or fewer, and
    train for the number of rounds that comes nearest. What `begin` may do elsewhere meanwhile is half of the work
    beside the federation's own: the federated nodes are left to the caller.
    """
    rows, personal_rows = (sum(len(node.train) for node in group) / len(group) for group in (nodes, personal_nodes))
    begun_personal = begin(method, personal_nodes, max(1, round(rounds * rows / personal_rows)))
    pooled_training = replace(method.training, batch_size=method.training.batch_size * len(nodes))
    pooled_node = Node(0, "pooled", train, train.take(np.empty(0, np.int64)))
    begun_pooled = begin(replace(method, training=pooled_training), [pooled_node], rounds)

    def squares(row: Tensor, rows: Ratings) -> np.ndarray:
        prediction = method.rate(row, torch.from_numpy(rows.item).long())
        squared: np.ndarray = np.square(prediction.numpy() - rows.value)
        return squared

    def root_mean(parts: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(np.concatenate(parts).mean()))

    def finish() -> TrainedAlone:
        local = begin_here(method, nodes, rounds)()
        personal, pooled = begun_personal(), begun_pooled()[0]
        tests, by_item = [node.test for node in personal_nodes], _RowsByItem.of(test)
        return TrainedAlone(
            local_only=float(np.sqrt(np.mean([by_item.mean_square(method, row) for row in local]))),
            personal_local_only=root_mean([squares(*pair) for pair in zip(personal, tests, strict=True)]),
            centralised=root_mean([squares(pooled, test)]),
            personal_centralised=root_mean([squares(pooled, rows) for rows in tests]),
        )

    return finish


@dataclass(frozen=True)
class _RowsByItem:
    """Rows as what the squared errors of a network need of them: it rates an item alike in all of its rows.

    items: those that occur. counts, means: of each one's ratings. spread: of all ratings around the means of their
    items, a sum of squares.
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
        """Of the errors on the rows: by items, since a hundred thousand nodes alone are each judged on all rows."""
        off = method.rate(parameters, self.items).numpy() - self.means
        return float((self.counts @ np.square(off) + self.spread) / self.counts.sum())


def local_rmse(local: LocalOnly, train: Ratings, test: Ratings) -> float:
    """RMSE on `test` where each user learns alone from the own rows of `train`, and nothing is sent.

    Users come in pieces, since a model holds what is known of the item of each of its ratings.
    """
    users = 1 + int(max(train.user.max(), test.user.max()))
    piece = np.cumsum(count(train.user, users)) // _PIECE
    of_train, of_test = look_up(piece, train.user), look_up(piece, test.user)
    found = np.empty(len(test))
    for number in np.unique(of_test):
        rows = np.flatnonzero(of_test == number)
        node = Node(0, "everyone", train.take(of_train == number), test.take(rows))
        (model,) = local.personalise(local.start(), [node], [None])
        user, item = (torch.from_numpy(column).long() for column in (node.test.user, node.test.item))
        found[rows] = model.predict(user, item).numpy()
    return rating_errors(found, test.value, test.user).rmse
