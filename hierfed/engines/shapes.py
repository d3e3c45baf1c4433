"""The engines of one process, by the mode of their rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hierfed.data.federation import Node
from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import PLAIN, Round
from hierfed.federated.contract import SumMethod
from hierfed.federated.method import Trained
from hierfed.federated.stage import RATING
from hierfed.observer import SILENT, Observer

ENGINES: Mapping[str, Callable[..., Trained]] = {
    "sync": run_rounds,
    "async": run_asynchronous,
}
"""The engine of each shape of rounds; all take the arguments of run_training."""


def run_training(
    method: SumMethod,
    nodes: Sequence[Node],
    rounds: int,
    on_round: Callable[[FinishedRound], None] = lambda finished: None,
    how: Round = PLAIN,
    observer: Observer = SILENT,
    stage: str = RATING,
) -> Trained:
    """Train the shared model in rounds of the given shape; see hierfed.engines.in_process.run_rounds."""
    return ENGINES[how.mode](method, nodes, rounds, on_round, how, observer, stage)
