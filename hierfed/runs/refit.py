"""Users' models for use: once a run is judged, its users learn from all their rows, held-out ones too.

Only the users' own models are fitted again, by the formulas that fitted them before. The shared model stays as it is,
so nothing is trained anew and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hierfed.data.federation import Node, RowsByNode, rows_by_node
from hierfed.data.grouping import distinct, rows_where
from hierfed.data.ratings import Dataset, Ratings
from hierfed.data.splits import Split
from hierfed.federated.private import PersonalModel
from hierfed.outcome import Outcome
from hierfed.runs.private_files import NOWHERE


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The rows of a data set that no node learned from.

    by_user: these rows, user by user. nowhere: the numbers of users who have such rows and are on no node."""

    by_user: RowsByNode
    nowhere: np.ndarray

    def of(self, users: np.ndarray) -> Ratings:
        """All such rows of these users."""
        starts, lengths = self.by_user.offsets[users], np.diff(self.by_user.offsets)[users]
        ends = np.cumsum(lengths)
        rows = np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())
        return self.by_user.ratings.take(rows) if len(rows) else self.by_user.ratings.between(0, 0)


def held_out(dataset: Dataset, split: Split) -> HeldOut:
    """The rows that are in no train part, and the users who have no others and whom no node judges."""
    ratings = dataset.ratings
    left = np.ones(len(ratings), bool)
    placed = np.zeros(dataset.users, bool)
    for rows in (split.train, split.personal_train):
        left[rows] = False
        placed[distinct(ratings.user[rows])] = True
    placed[distinct(ratings.user[split.personal_test])] = True
    by_user = rows_by_node(ratings, ratings.user, dataset.users, rows_where(left))
    return HeldOut(by_user, np.flatnonzero(~placed & (np.diff(by_user.offsets) > 0)))


def besides_ratings(outcome: Outcome, held: HeldOut) -> RowsByNode:
    """The rows, user by user, that users' models may not have learned from; lists leave their items out.

    Seen items bear no rating; theirs here are 0.
    """
    dataset, known = outcome.dataset, held.by_user.ratings
    if not outcome.method.user_models and outcome.personal_nodes is not outcome.federated_nodes:
        known = replace(dataset.ratings, time=None)
    elif not len(dataset.seen):
        return held.by_user
    user, item = (np.concatenate([getattr(known, name), dataset.seen[:, n]]) for n, name in enumerate(("user", "item")))
    rows = Ratings(user, item, np.concatenate([known.value, np.zeros(len(dataset.seen), np.float32)]))
    return rows_by_node(rows, user, dataset.users)


def models_for_use(outcome: Outcome, held: HeldOut) -> Mapping[str, PersonalModel]:
    """A run's users' models by the name of their node, as the setting serving.refit says."""
    judged = outcome.private_models()
    if outcome.settings.serving.refit == "none":
        return judged
    method, shared = outcome.method, outcome.shared

    def besides(node: Node) -> Ratings:
        return held.of(np.union1d(node.train.user, node.test.user))

    same = outcome.personal_nodes is outcome.federated_nodes
    states = outcome.states if same else [None] * len(outcome.personal_nodes)
    models = method.refit(shared, outcome.personal_nodes, states, besides, outcome.personal_models)
    federated: Sequence[PersonalModel] = []
    if len(outcome.federated_models):
        nodes = outcome.federated_nodes
        federated = method.refit(shared, nodes, outcome.states, besides, outcome.federated_models)
    found = replace(outcome, personal_models=models, federated_models=federated).private_models()
    if len(held.nowhere) and method.user_models:
        rows = held.of(held.nowhere)
        (found[NOWHERE],) = method.personalise(shared, [Node(0, NOWHERE, rows, rows.between(0, 0))], [None])
    return found
