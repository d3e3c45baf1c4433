"""A stage before the network's training: fit its item features on all nodes' ratings, by two sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.data.catalogue import Catalogue
from hierfed.data.features import CatalogueFeatures, Features, RatingFeatures, catalogue_features, has_features
from hierfed.data.federation import Node, Nodes, train_rows
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState


@dataclass(frozen=True)
class FeatureFitting:
    """The method that fits item features from sums, finished after round 1; see SumMethod.

    fitting: defines the sums and the features that follow from them.
    """

    fitting: CatalogueFeatures | RatingFeatures

    def start(self) -> SharedModel:
        """An empty model; see SumMethod."""
        return SharedModel({}, round=-1)

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """Sums over a node's train rows; see SumMethod."""
        for node in nodes:
            yield self._sums(shared, node.train), None

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """The same sums over all rows at once, equal up to rounding; see PooledMethod."""
        return self._sums(shared, train_rows(nodes)[1]), private

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """The quantities learned from the sums; see SumMethod."""
        learned = self.fitting.learn(_arrays(shared.arrays), _arrays(total.arrays))
        return SharedModel({name: torch.from_numpy(array) for name, array in learned.items()}, shared.round + 1)

    def features(self, shared: SharedModel) -> Features:
        """The features of the finished model."""
        return self.fitting.features(_arrays(shared.arrays))

    def _sums(self, shared: SharedModel, train: Ratings) -> Contribution:
        sums = self.fitting.sums(_arrays(shared.arrays), train)
        return Contribution({name: torch.from_numpy(array) for name, array in sums.items()})


def feature_fitting(catalogue: Catalogue, threshold: int) -> FeatureFitting:
    """The fitting of a catalogue's features. A catalogue without features gets features from the items' ratings.

    threshold: the least number of ratings of an item for its own sum to be sent, if features come from ratings.
    """
    if has_features(catalogue):
        return FeatureFitting(catalogue_features(catalogue))
    return FeatureFitting(RatingFeatures(len(catalogue), threshold))


def features_of(catalogue: Catalogue, train: Ratings, threshold: int) -> Features:
    """The features, fitted on these ratings in one place.

    threshold: see feature_fitting.
    """
    method = feature_fitting(catalogue, threshold)
    shared = method.start()
    while shared.round < 1:
        ((sums, _),) = method.contribute(shared, [Node(0, "all", train, train)], [None])
        shared = method.combine(shared, sums)
    return method.features(shared)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
