"""Users' models for use: once a run is judged, its users learn from all of their rows, held-out ones too.

Only the users' own models are fitted again, by the formulas that fitted them before. The shared model stays as it is,
so nothing is trained anew and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hierfed.data.federation import Node, RowsByNode, rows_by_node
from hierfed.data.grouping import distinct, rows_where
from hierfed.data.ratings import Dataset, Ratings, concatenated
from hierfed.data.splits import Split
from hierfed.experiment import Outcome
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.contract import SharedModel
from hierfed.federated.factors import HierarchicalFactors
from hierfed.methods import AnyMethod
from hierfed.personal.private import PersonalModel, PrivateState
from hierfed.private_files import NOWHERE


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The rows of a data set that no node learned from. by_user: these, user by user. nowhere: the numbers of users who
    have such rows and are on no node."""

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
    ratings = replace(dataset.ratings, time=None)
    left = np.ones(len(ratings), bool)
    placed = np.zeros(dataset.users, bool)
    for rows in (split.train, split.personal_train):
        left[rows] = False
        placed[distinct(ratings.user[rows])] = True
    placed[distinct(ratings.user[split.personal_test])] = True
    by_user = rows_by_node(ratings, ratings.user, dataset.users, rows_where(left))
    return HeldOut(by_user, np.flatnonzero(~placed & (np.diff(by_user.offsets) > 0)))


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
    models = refit_users(method, shared, outcome.personal_nodes, states, besides, outcome.personal_models)
    federated: Sequence[PersonalModel] = []
    if len(outcome.federated_models):
        nodes = outcome.federated_nodes
        federated = refit_users(method, shared, nodes, outcome.states, besides, outcome.federated_models)
    found = replace(outcome, personal_models=models, federated_models=federated).private_models()
    if len(held.nowhere) and isinstance(method, HierarchicalFactors):
        rows = held.of(held.nowhere)
        (found[NOWHERE],) = method.personalise(shared, [Node(0, NOWHERE, rows, rows.between(0, 0))], [None])
    return found


def refit_users(
    method: AnyMethod,
    shared: SharedModel,
    nodes: Sequence[Node],
    private: Sequence[PrivateState | None],
    besides: Callable[[Node], Ratings],
    judged: Sequence[PersonalModel],
) -> Sequence[PersonalModel]:
    """The users' models of each node, from its train rows and those `besides`, which are in no sum of its.

    judged: the models from the train rows alone, which networks keep: they would have to be trained.
    """
    if isinstance(method, FederatedAveraging):
        return judged
    if isinstance(method, HierarchicalFactors):
        return method.personalise(shared, nodes, private, besides)
    whole = [replace(node, train=concatenated([node.train, besides(node)])) for node in nodes]
    return method.personalise(shared, whole, private)
