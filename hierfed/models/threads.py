"""Training on several threads: nodes in chunks, each chunk on a thread of its own."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, row_counts
from hierfed.models.network import Network, Predictor
from hierfed.models.training import EpochEnd, LocalTraining, Streams, Trainer

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ThreadedTrainer:
    """A trainer that hands chunks of nodes, alike in rows, to this many threads; see training.Trainer.

    A node's numbers do not depend on its chunk, so neither do they on the number of threads. Modules that draw from
    torch's own generator, which all threads share, are trained on one.
    """

    trainer: Trainer
    threads: int

    def __call__(
        self,
        predictor: Predictor,
        start: Tensor,
        features: Tensor,
        nodes: Sequence[Node],
        settings: LocalTraining,
        streams: Streams,
        on_epoch_end: EpochEnd | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Train every node; see Trainer."""
        chunks = _chunks(row_counts(nodes), self.threads)
        if len(chunks) == 1 or not isinstance(predictor, Network):
            return self.trainer(predictor, start, features, nodes, settings, streams, on_epoch_end)

        def train(chunk: slice) -> tuple[Tensor, Tensor]:
            epoch_end: EpochEnd | None = None
            if on_epoch_end is not None:
                tell, first = on_epoch_end, chunk.start

                def epoch_end(row: int, epoch: int, parameters: Tensor) -> None:
                    tell(first + row, epoch, parameters)

            return self.trainer(predictor, start[chunk], features, nodes[chunk], settings, streams, epoch_end)

        with ThreadPoolExecutor(len(chunks)) as pool:
            parts = list(pool.map(train, chunks))
        return torch.cat([parameters for parameters, _ in parts]), torch.cat([losses for _, losses in parts])


def in_order(work: Callable[[Task], Result], tasks: Iterable[Task], threads: int) -> Iterator[Result]:
    """What `work` makes of each task, in the order of the tasks; threads + 1 at most are ahead of whoever asks."""
    if threads == 1:
        yield from map(work, tasks)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's own threads out of the block: on operations as small as these they cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chunks(rows: np.ndarray, count: int) -> list[slice]:
    """At most `count` runs of nodes with about the same number of rows each."""
    middle = np.cumsum(rows) - rows / 2
    chunk = np.minimum(middle * count // max(rows.sum(), 1), count - 1)
    bounds = [0, *(np.flatnonzero(np.diff(chunk)) + 1), len(rows)]
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
