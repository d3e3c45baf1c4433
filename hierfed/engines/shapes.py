"""The engines of one process, by the shape of their rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hierfed.data.federation import Node
from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.gossip import run_gossip
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import PLAIN, Round
from hierfed.federated.contract import SumMethod
from hierfed.federated.method import Trained
from hierfed.federated.stage import RATING
from hierfed.observer import SILENT, Observer

ENGINES: Mapping[tuple[str, str], Callable[..., Trained]] = {
    ("star", "sync"): run_rounds,
    ("tree", "sync"): run_rounds,
    ("gossip", "sync"): run_gossip,
    ("star", "async"): run_asynchronous,
}
"""The engine of each topology and mode; all take the arguments of run_training. Settings refuse other pairs."""


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
    return ENGINES[how.topology, how.mode](method, nodes, rounds, on_round, how, observer, stage)
