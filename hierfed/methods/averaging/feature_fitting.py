"""A stage before the network's training: fit its item features on all nodes' ratings, by two sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from hierfed.data.catalogue import Catalogue
from hierfed.data.features import EXACT, CatalogueFeatures, Features, RatingFeatures, catalogue_features, has_features
from hierfed.data.federation import Node, Nodes, train_rows
from hierfed.data.ratings import Ratings
from hierfed.federated.checks import Check, between, counts, not_negative, within
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState


@dataclass(frozen=True)
class FeatureFitting:
    """The method that fits item features from sums, finished after round 1; see SumMethod.

    fitting: defines the sums and the features that follow from them.
    limits: the lowest and the highest possible rating.
    """

    fitting: CatalogueFeatures | RatingFeatures
    limits: tuple[float, float] = (-inf, inf)

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
        """The quantities learned from the sums; exact numbers of ratings stay at the server. See SumMethod."""
        learned = self.fitting.learn(_arrays({**shared.arrays, **shared.server}), _arrays(total.arrays))
        found = {name: torch.from_numpy(array) for name, array in learned.items()}
        server = {EXACT: found.pop(EXACT)} if EXACT in found else {}
        return SharedModel(found, shared.round + 1, server=server)

    def checks(self, shared: SharedModel) -> Sequence[Check]:
        """Sums of public columns over so many ratings; see SumMethod."""
        if isinstance(self.fitting, RatingFeatures):
            if not shared.arrays:
                return (counts("counts"),)
            known, (low, high) = shared.arrays["counts"], self.limits
            number = known[known > 0]
            size = number * max(abs(low), abs(high))
            return (within("ratings", lambda _: size),)
        columns = torch.from_numpy(self.fitting.columns)
        if shared.arrays:
            filled = torch.from_numpy(self.fitting.filled(_arrays(shared.arrays)))
            squares = (filled - shared.arrays["centre"]).square().amax(0)
            most = within("squares", lambda sent: sent["rows"] * squares, float(squares.max()))
            return counts("rows"), not_negative("squares"), most
        least, largest = columns.amin(0), columns.amax(0)
        sums = between("sums", lambda sent: sent["rows"] * least, lambda sent: sent["rows"] * largest, 1.0)
        if not self.fitting.imputed:
            return counts("rows"), sums
        return counts("rows", "groups"), sums, within("groups", lambda sent: sent["rows"])

    def features(self, shared: SharedModel) -> Features:
        """The features of the finished model."""
        return self.fitting.features(_arrays(shared.arrays))

    def _sums(self, shared: SharedModel, train: Ratings) -> Contribution:
        sums = self.fitting.sums(_arrays(shared.arrays), train)
        return Contribution({name: torch.from_numpy(array) for name, array in sums.items()})


def feature_fitting(catalogue: Catalogue, threshold: int, limits: tuple[float, float]) -> FeatureFitting:
    """The fitting of a catalogue's features. A catalogue without features gets features from the items' ratings.

    threshold: the least number of ratings of an item for its own sum to be sent, if features come from ratings.
    limits: the lowest and the highest possible rating.
    """
    if has_features(catalogue):
        return FeatureFitting(catalogue_features(catalogue), limits)
    return FeatureFitting(RatingFeatures(len(catalogue), threshold, limits), limits)


def features_of(catalogue: Catalogue, train: Ratings, threshold: int, limits: tuple[float, float]) -> Features:
    """The features, fitted on these ratings in one place.

    threshold, limits: see feature_fitting.
    """
    method = feature_fitting(catalogue, threshold, limits)
    shared = method.start()
    while shared.round < 1:
        ((sums, _),) = method.contribute(shared, [Node(0, "all", train, train)], [None])
        shared = method.combine(shared, sums)
    return method.features(shared)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
