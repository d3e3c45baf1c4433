"""Validation rows inside the train rows, of the protocol's own kind: the newest where test rows are, or new users'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierfed.data.division import TEST_SHARE
from hierfed.data.federation import Node, Nodes, make_nodes, train_rows
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings
from hierfed.data.settings import SplitSettings
from hierfed.randomness import generator
from hierfed.settings import Settings

# The share of the users that are taken for new ones, where the protocol judges users who sent nothing.
NEW_USERS = 0.2


@dataclass(frozen=True)
class Held:
    """Train rows divided once more.

    learning: nodes with the rows that models learn from.
    judged: nodes whose users are judged on their test rows, by their train rows; the same nodes unless users are new.
    """

    learning: Nodes
    judged: Nodes


def judges_random_rows(split: SplitSettings) -> bool:
    """True where users of the training are judged on rows drawn at random, as in the choice of hyperparameters.

    That choice holds back fewer rows. Of the newest rows, these were too few to tell a blend from its best part.
    """
    return not split.newest and split.protocol not in ("cold", "two_groups", "loo")


def hold_back(nodes: Sequence[Node], settings: Settings) -> Held:
    """Hold back validation rows as the settings' protocol holds back test rows."""
    ends, rows = train_rows(nodes)
    node = np.repeat(np.arange(len(nodes)), np.diff(ends))
    user = np.unique(node * (int(rows.user.max()) + 1) + rows.user, return_inverse=True)[1]
    rng, choice = generator(settings.seed, 0, 0, "validation of lists"), settings.split
    share = choice.test_share or TEST_SHARE.get(choice.protocol, 0.2)
    if choice.protocol in ("cold", "two_groups"):
        share = share if choice.protocol == "cold" else 1 - choice.personal_train_rows
        new = rng.random(int(user.max()) + 1) < NEW_USERS
        if new.any() and not new.all():
            learning = _nodes(rows, node, ~new[user], np.zeros(len(rows), bool))
            held = np.zeros(len(rows), bool)
            held[new[user]] = last_of_each_user(user[new[user]], rng.random, share)
            return Held(learning, _nodes(rows, node, new[user] & ~held, held))
    key = rows.time if choice.newest and rows.time is not None else rng.random
    held = last_of_each_user(user, key, 0.0 if choice.protocol == "loo" else share)
    both = _nodes(rows, node, ~held, held)
    return Held(both, both)


def _nodes(rows: Ratings, node: np.ndarray, train: np.ndarray, test: np.ndarray) -> Nodes:
    """Nodes with these train and test rows, numbered anew, without those that have no train row."""
    kept = np.unique(node[train])
    places = (np.searchsorted(kept, node[chosen]) for chosen in (train, test))
    return make_nodes(rows.take(train), next(places), rows.take(test), next(places), len(kept))
