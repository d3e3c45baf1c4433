"""Anchor: biased matrix factorisation trained by federated averaging, on the package's own contract and engine.

Users live on 8 nodes and keep their bias and factors; a node makes local epochs of stochastic gradient descent on them
and on the items' biases and factors, and sends the latter. An item's parameters are averaged with the counts of its
ratings as weights, so that nodes which have not seen it do not hold it back. In the end each user, newcomers too, fits
bias and factors once more to the items as they are, by ridge regression; nothing is sent for that. Under `cold` the
items learn from the federated users alone, as in any federation.
Settings chosen on the validation rows of seed 0, warm, from ranks 8 to 32, 15 to 60 rounds, learning rates .01 and .02,
penalties .06 to .15, and the users' last penalties 5 to 30.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from task import NODES, Task, run_anchor
from torch import Tensor

import hierfed
from hierfed.data.federation import Node, make_nodes
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.checks import Check
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PrivateState
from hierfed.randomness import generator

RANK = 16
ROUNDS = 30
LOCAL_EPOCHS = 2
BATCH = 64
LEARNING_RATE = 0.02
PENALTY = 0.1
USER_PENALTY = 30.0
USER_BIAS_PENALTY = 3.0
INITIAL_SCALE = 0.1


@dataclass(frozen=True)
class UserSide(PrivateState):
    """Each user's bias and factors, [users, 1 + rank]; a node fills in the rows of its own."""

    users: Tensor


class FederatedFactors:
    """Items' biases and factors, [items, 1 + rank], learned by averaging; the method of an engine's rounds."""

    def __init__(self, users: int, items: int, seed: int) -> None:
        self.users, self.items, self.seed = users, items, seed

    def start(self) -> SharedModel:
        """Small random factors; an opening round finds the mean rating."""
        rng = generator(self.seed, 0, 0, "factors")
        items = np.zeros((self.items, 1 + RANK))
        items[:, 1:] = rng.normal(0, INITIAL_SCALE, (self.items, RANK))
        return SharedModel({"items": torch.from_numpy(items), "mean": torch.zeros(1, dtype=torch.float64)}, round=-1)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """The sum and count of a node's ratings in the opening round, then its items, times their ratings' counts."""
        for node, kept in zip(nodes, private, strict=True):
            rows = node.train
            if shared.round < 0:
                opening = torch.tensor([rows.value.sum(dtype=np.float64), len(rows)], dtype=torch.float64)
                yield Contribution({"opening": opening}), None
                continue
            rng = generator(self.seed, shared.round, node.number, "local epochs")
            own = kept.users.clone() if isinstance(kept, UserSide) else self.start_users(rng)
            items = shared.arrays["items"].float()
            descend(items, own, rows, float(shared.arrays["mean"]), rng)
            count = torch.from_numpy(np.bincount(rows.item, minlength=self.items).astype(np.float64))
            yield Contribution({"items": items.double() * count[:, None], "count": count}), UserSide(own)

    def start_users(self, rng: np.random.Generator) -> Tensor:
        """Small random factors and no bias for every user."""
        users = rng.normal(0, INITIAL_SCALE, (self.users, 1 + RANK))
        users[:, 0] = 0
        return torch.from_numpy(users).float()

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """None: this is a yardstick in one process."""
        return ()

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The mean of the items' parameters over the ratings; an item that nobody has rated stays as it is."""
        if shared.round < 0:
            ratings, count = total.arrays["opening"]
            return SharedModel({**shared.arrays, "mean": (ratings / count).reshape(1)}, round=0)
        count = total.arrays["count"][:, None]
        items = torch.where(count > 0, total.arrays["items"] / count.clamp(min=1), shared.arrays["items"])
        return SharedModel({**shared.arrays, "items": items}, shared.round + 1)


def descend(items: Tensor, users: Tensor, rows: Ratings, mean: float, rng: np.random.Generator) -> None:
    """Local epochs of gradient descent, in place on both sides' float32 parameters."""
    user, item, value = (torch.from_numpy(column) for column in (rows.user, rows.item, rows.value - mean))
    for _ in range(LOCAL_EPOCHS):
        for batch in torch.from_numpy(rng.permutation(len(rows))).split(BATCH):
            u, i = user[batch], item[batch]
            p, q = users[u], items[i]
            error = (value[batch] - p[:, 0] - q[:, 0] - (p[:, 1:] * q[:, 1:]).sum(1))[:, None]
            step_p, step_q = torch.cat([error, error * q[:, 1:]], 1), torch.cat([error, error * p[:, 1:]], 1)
            users.index_add_(0, u, step_p - PENALTY * p, alpha=LEARNING_RATE)
            items.index_add_(0, i, step_q - PENALTY * q, alpha=LEARNING_RATE)


def fit_users(rows: Ratings, items: np.ndarray, mean: float, users: int) -> np.ndarray:
    """Each user's bias and factors by ridge regression on the items' factors, [users, 1 + rank]."""
    fitted = np.zeros((users, items.shape[1]))
    penalty = np.diag([USER_BIAS_PENALTY, *[USER_PENALTY] * RANK])
    for user in np.unique(rows.user):
        own = rows.user == user
        factors = items[rows.item[own]]
        target = rows.value[own] - mean - factors[:, 0]
        design = np.column_stack([np.ones(len(factors)), factors[:, 1:]])
        fitted[user] = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    return fitted


def predict(task: Task) -> np.ndarray:
    """Train by rounds, then let every user fit once more."""
    users, rows = task.dataset.users, task.federated
    member = generator(task.seed, 0, 0, "nodes").permutation(users) % NODES
    nobody = rows.take(np.empty(0, np.int64))
    nodes = make_nodes(rows, member[rows.user], nobody, member[nobody.user], NODES)
    shared = run_rounds(FederatedFactors(users, task.dataset.items, task.seed), nodes, ROUNDS).shared
    items, mean = shared.arrays["items"].numpy(), float(shared.arrays["mean"])
    own = fit_users(task.train, items, mean, users)[task.asked.user]
    asked = items[task.asked.item]
    return mean + own[:, 0] + asked[:, 0] + (own[:, 1:] * asked[:, 1:]).sum(1)


def sent(task: Task) -> float:
    """Bytes that a node sends: items' parameters and counts each round, in float64, and two numbers to open."""
    return 8 * (ROUNDS * task.dataset.items * (1 + RANK + 1) + 2)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_anchor("FedAvg biased MF", f"hierfed {hierfed.__version__}", predict, sent)
