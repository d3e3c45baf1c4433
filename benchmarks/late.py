"""How much sooner does the hierarchical model get where it is going, if the server does not wait for a slow node?

    python benchmarks/late.py --data FOLDER [--seeds 1] [--first-seed 0] [--rounds 50] [--answers 1] [--speed one_slow]
        [--momentum 0] [--nodes 8] [--share 0.3] [--every 1]

Synchronous and asynchronous rounds of one seed, without kriging, in simulated time; the figures are RMSE on validation
rows: a tenth of the train rows, drawn at random, which are left out of the training. Asynchronous rounds end as they
reach the RMSE of the last synchronous round, or after this share of its time; `--share 1` takes as long, whatever they
reach. They are judged once in `--every` units, so that a time is at most so much too long. The last line of a seed says
how much sooner they reach it, and the RMSE on test rows at the end of both. For accelerated rounds: `--rounds 16
--momentum 0.8`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.in_process import FinishedRound
from hierfed.engines.rounds import Lateness, Round
from hierfed.federated.tables import SPEEDS
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.observer import Observer
from hierfed.randomness import generator
from hierfed.settings import load_settings

VALIDATION, ENDLESS = 0.1, 10**6


@dataclass
class Curve:
    """RMSE on validation rows by simulated time, up to a simulated time.

    name: for the lines that it prints. nodes: with the rows to learn from. held: the same with validation rows as test.
    every: the units of time from one judgement to the next, at the least. goal: an RMSE at which it ends, too.
    first: the first step that is judged.
    """

    name: str
    method: HierarchicalFactors
    nodes: Sequence[Node]
    held: Sequence[Node]
    every: float
    until: float = float("inf")
    goal: float = 0.0
    first: int = 1
    points: list[tuple[float, float]] = field(default_factory=list)
    clock: float = 0.0

    def ended(self, done: FinishedRound) -> None:
        """Judge a step. Users' models are made of what they have rated: they take no own sums out."""
        self.clock = done.clock
        if done.number < self.first or (self.points and done.clock < self.points[-1][0] + self.every):
            return
        models = self.method.personalise(done.shared, self.nodes, [None] * len(self.nodes))
        self.points.append((done.clock, rmse(list(self.held), list(models))))
        print(f"{self.name} step {done.number:4} time {done.clock:7.1f}  {self.points[-1][1]:.5f}", flush=True)


class Until(Observer):
    """Ends a training at the end of its curve."""

    def __init__(self, curve: Curve):
        self._curve = curve

    def should_continue(self) -> bool:
        """See Observer."""
        points = self._curve.points
        return self._curve.clock < self._curve.until and not (points and points[-1][1] <= self._curve.goal)


def main() -> None:
    """Print the curves and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--answers", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--speed", default="one_slow", choices=sorted(SPEEDS))
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--nodes", type=int, default=8, help="constant speed, one answer a step: n - 1 late")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        settings = load_settings(
            "hierarchical",
            {"source": options.data, "protocol": "warm", "seed": seed, "nodes": options.nodes}
            | {"personal_nodes": options.nodes},
        )
        dataset = load_dataset(settings)
        nodes, _ = assign(dataset, divide(dataset, settings), settings)
        held, kept = [], []
        for node in nodes:
            drawn = generator(seed, 0, node.number, "validation of lateness").random(len(node.train)) < VALIDATION
            rows, rest = node.train.take(np.flatnonzero(drawn)), node.train.take(np.flatnonzero(~drawn))
            kept.append(replace(node, train=rest))
            held.append(replace(node, train=rest, test=rows))
        method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
        assert isinstance(method, HierarchicalFactors)
        method = replace(method, kernel=None, momentum=options.momentum, threads=1)
        curves, tests, until, goal = {}, {}, float("inf"), 0.0
        for name, answers in (("sync", len(nodes)), ("async", options.answers)):
            first = options.rounds if name == "sync" else 1
            curve = Curve(f"seed {seed} {name:5}", method, kept, held, options.every, until, goal, first)
            how = Round(mode="async", lateness=Lateness(answers, SPEEDS[options.speed], seed))
            steps = options.rounds if name == "sync" else ENDLESS
            trained = run_asynchronous(method, kept, steps, curve.ended, how, Until(curve))
            until, curves[name] = options.share * curve.clock, curve.points
            goal = curve.points[-1][1] if options.share < 1 else 0.0
            tests[name] = rmse(kept, list(method.personalise(trained.shared, kept, trained.private)))
        goal, end = curves["sync"][-1][1], curves["sync"][-1][0]
        reached = next((time for time, error in curves["async"] if error <= goal), float("nan"))
        print(
            f"seed {seed}: {goal:.5f} after {end:.1f} and after {reached:.1f}: {end / reached:.1f} times sooner; test "
            f"{tests['sync']:.5f} and {tests['async']:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
