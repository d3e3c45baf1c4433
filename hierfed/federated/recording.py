"""Who keeps a record of the sums of a training in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from hierfed.data.federation import Node, Nodes, numbers_of
from hierfed.federated.contract import Contribution, OnDone, PooledMethod, SharedModel, SumMethod, unheard
from hierfed.federated.private import PrivateState
from hierfed.results import PrivacyRecord

Spent = Callable[[int], PrivacyRecord | None]
"""What differential privacy has spent after so many rounds; None without it."""


class Recorder(Protocol):
    """Is told of each sum, of every stage of a training, and gives its record when all is over."""

    def on_sum(self, stage: str, total: Contribution, shared: SharedModel, numbers: np.ndarray) -> None:
        """A sum of what the nodes of these numbers sent has been combined into this model."""
        ...

    def sealed(self, models: Mapping[str, SharedModel], files: Mapping[str, str]) -> bytes:
        """The whole record, with each stage's final model and the digests of the run's files."""
        ...


class RecordedMethod:
    """A method, each of whose sums is told to a recorder, with the nodes that were last asked to contribute."""

    def __init__(self, method: SumMethod, stage: str, recorder: Recorder):
        self.method, self._stage, self._recorder = method, stage, recorder
        self._asked = np.empty(0, np.int64)

    def start(self) -> SharedModel:
        """See SumMethod."""
        return self.method.start()

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, PrivateState | None]]:
        """See SumMethod."""
        self._asked = numbers_of(nodes)
        return self.method.contribute(shared, nodes, private)

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """See SumMethod."""
        combined = self.method.combine(shared, total)
        self._recorder.on_sum(self._stage, total, combined, self._asked)
        return combined


class RecordedPooledMethod(RecordedMethod):
    """A recorded method that adds up many nodes at once."""

    method: PooledMethod

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = unheard,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """See PooledMethod."""
        self._asked = numbers_of(nodes)
        return self.method.contribute_pooled(shared, nodes, private, on_done)


def recorded(method: SumMethod, stage: str, recorder: Recorder | None) -> SumMethod:
    """The method as it is where nobody keeps a record."""
    if recorder is None:
        return method
    if isinstance(method, PooledMethod):
        return RecordedPooledMethod(method, stage, recorder)
    return RecordedMethod(method, stage, recorder)
