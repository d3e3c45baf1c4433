"""Federated averaging over many small nodes: the same sums, without an object per node."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Nodes, row_counts, train_rows
from hierfed.federated.contract import Contribution, OnDone, SharedModel, ignore_share
from hierfed.federated.private import PrivateState
from hierfed.methods.averaging.averaging import FederatedAveraging, largest_change
from hierfed.methods.averaging.threads import STACK, stacks_of
from hierfed.methods.averaging.training import Streams, Trainer
from hierfed.models.threads import in_order
from hierfed.privacy.clipping import clip_rows


@dataclass(frozen=True)
class PooledAveraging(FederatedAveraging):
    """Federated averaging that trains many nodes at once. Its sums equal those of FederatedAveraging bit for bit.

    A node's contribution does not depend on its stack, and contributions are added in the order of the nodes.

    stacked: trains one stack of nodes on one thread.
    threads: number of threads; each trains one chunk of neighbouring nodes at a time.
    chunk_rows: about how many rows a chunk holds.
    stack: most nodes in a stack; those of a stack have similar numbers of rows.
    """

    stacked: Trainer
    stack: int
    threads: int
    chunk_rows: int

    def contribute_pooled(
        self,
        shared: SharedModel,
        nodes: Nodes,
        private: Sequence[PrivateState | None],
        on_done: OnDone = ignore_share,
    ) -> tuple[Contribution, Sequence[PrivateState | None]]:
        """See PooledMethod; nodes keep nothing."""
        counts = row_counts(nodes)
        rows = np.array([counts.sum()], np.float64)
        if shared.round + 1 == 0:
            ends, train = train_rows(nodes)
            ratings = np.add.reduceat(train.value.astype(np.float64), ends[:-1])
            return Contribution({"ratings": _total(ratings[:, None]), "rows": torch.from_numpy(rows)}), private
        change = np.zeros(self.predictor.parameter_count)
        loss = np.zeros(self.training.epochs)

        def work(chunk: slice) -> tuple[np.ndarray, np.ndarray]:
            return self._weighted(shared, nodes[chunk], counts[chunk])

        # Several chunks per thread, so that no thread waits long for the others at the end.
        chunks = _chunks(counts, min(self.chunk_rows, int(rows[0]) // (4 * self.threads) + 1))
        for chunk, (changes, losses) in zip(chunks, in_order(work, chunks, self.threads), strict=True):
            # NumPy adds along the first axis row after row, in order.
            change = np.add.reduce(np.concatenate([change[None], changes]), axis=0)
            loss = np.add.reduce(np.concatenate([loss[None], losses]), axis=0)
            on_done(float(counts[: chunk.stop].sum() / rows[0]))
        arrays = {"change": change, "rows": rows, "loss": loss}
        return Contribution({name: torch.from_numpy(array) for name, array in arrays.items()}), private

    def _weighted(self, shared: SharedModel, nodes: Nodes, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """n (local - global) and n times the losses of each node, float64 [nodes, parameters] and [nodes, epochs]."""
        start, streams = shared.arrays["parameters"], Streams(self.seed, shared.round + 1, "training")
        most = largest_change(start)
        changes = torch.empty(len(nodes), self.predictor.parameter_count, dtype=torch.float64)
        losses = torch.empty(len(nodes), self.training.epochs, dtype=torch.float64)
        for places in stacks_of(counts, most=self.stack):
            here = start.expand(len(places), -1)
            local, loss = self.stacked(self.predictor, here, self.features, nodes.take(places), self.training, streams)
            rows = torch.from_numpy(places)
            changes[rows], losses[rows] = clip_rows(local.double() - start.double(), most), loss
        weights = torch.from_numpy(counts).double()[:, None]
        return changes.mul_(weights).numpy(), losses.mul_(weights).numpy()


def pooled(
    plain: FederatedAveraging, stacked: Trainer, threads: int, chunk_rows: int, stack: int = STACK
) -> PooledAveraging:
    """The same method, also for many small nodes; see PooledAveraging."""
    same = {field.name: getattr(plain, field.name) for field in fields(FederatedAveraging)}
    return PooledAveraging(**same, stacked=stacked, stack=stack, threads=threads, chunk_rows=chunk_rows)


def _chunks(counts: np.ndarray, most: int) -> list[slice]:
    """Runs of neighbouring nodes with about `most` rows, at least one node each."""
    chunk = (np.cumsum(counts) - counts) // most
    cuts = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(counts)]
    return [slice(begin, end) for begin, end in itertools.pairwise(cuts)]


def _total(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.add.reduce(rows, axis=0))
