"""Do experts pay on unevenly spread ratings? IFCA, FedEM and a pool beside FedAvg with fine-tuning.

    python benchmarks/experts.py [--data FOLDER] [--seeds 2] [--rounds 10] [--nodes 16] [--experts 4] [--per-node 2]

Without --data it takes generated ratings. Ratings are divided by genre, with concentration .1, under protocol warm: the
federated nodes themselves are judged. Every method has two trials on a fifth of the nodes' train rows, is
trained again on all of them, and judged once on the test rows. `down` is what the nodes ask for in all rounds, as a
share of all experts in all rounds, and in MB a node: experts that a node asks for, of 4 bytes a parameter. A simulation
in one process carries no bytes; a federation's server sends all experts to every node. `up` is what a node trains and
sends, of 8 bytes a parameter. `unasked` counts the experts that nobody asked for in the last round.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from zoo import Bench, judged

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.generated.files import write_world
from hierfed.settings import load_settings

GENERATED = {"users": 1_500, "items": 500, "ratings": 45_000, "seed": 0}
NONE: Mapping[str, Any] = {"node_level": "none"}
TUNED: Sequence[Mapping[str, Any]] = [
    {"node_level": "fine_tuning", "tuning_epochs": 4, "tuning_learning_rate": rate} for rate in (0.001, 0.0003)
]


@dataclass(frozen=True)
class Found:
    """RMSE; megabytes that a node asked for and sent; the share of all experts; those that nobody asked for."""

    rmse: float
    down: float
    up: float
    share: float
    unasked: int


def run(bench: Bench, changes: Mapping[str, Any], nodes: Sequence[Node]) -> Found:
    """Train and judge on these nodes' test rows."""
    settings = load_settings("network", {**bench.base, **changes})
    method, rounds, experts = bench.method(settings, nodes), settings.training.rounds, settings.model.experts
    trained = run_rounds(method, nodes, rounds)
    rmse = judged(nodes, method.personalise(trained.shared, nodes, trained.private)).rmse
    parameters = method.predictor.parameter_count
    if experts == 1:
        return Found(rmse, 4e-6 * parameters * rounds, 8e-6 * parameters * rounds, 1.0, 0)
    asked = np.mean([float(state.kept()["asked"].sum()) for state in trained.private if state is not None])
    # IFCA looks at all and trains one.
    sent = rounds if settings.model.gate == "ifca" else asked
    unasked = int((trained.shared.arrays["share"] == 0).sum())
    return Found(rmse, 4e-6 * parameters * asked, 8e-6 * parameters * sent, asked / (rounds * experts), unasked)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--per-node", type=int, default=2)
    parser.add_argument("--users", default="none", choices=("none", "bias", "ridge_head"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    several = {"experts": options.experts}
    methods: dict[str, Mapping[str, Any]] = {
        "FedAvg + fine-tuning": {},
        "IFCA": {**several, "gate": "ifca"},
        "FedEM": {**several, "gate": "fedem"},
        f"pool, {options.per_node} of {options.experts}": {**several, "experts_per_node": options.per_node},
    }
    found: dict[str, list[Found]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if source is None:
            source = str(Path(folder) / "world")
            write_world(Path(source), **GENERATED)
        for seed in range(options.seeds):
            base = {
                "source": source,
                "protocol": "warm",
                "nodes": options.nodes,
                "personal_nodes": options.nodes,
                "partition": "genre",
                "personal_partition": "genre",
                "concentration": 0.1,
                "rounds": options.rounds,
                "user_level": options.users,
                "seed": seed,
            }
            bench = Bench.of(base)
            for name, changes in methods.items():
                levels = [NONE, TUNED[0]] if changes else TUNED
                best = min(levels, key=lambda level: run(bench, {**changes, **level}, bench.trials).rmse)
                found[name].append(run(bench, {**changes, **best}, bench.nodes))
                console.print(f"seed {seed}  {name:22}  {found[name][-1].rmse:.4f}  {best}", highlight=False)
    title = f"{options.nodes} nodes by genre, concentration .1, {options.rounds} rounds, {options.seeds} seeds"
    table = Table(title=title)
    for heading in ("method", "RMSE", "less the first", "down, MB a node", "of all", "up, MB a node", "unasked"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    first = np.array([each.rmse for each in found["FedAvg + fine-tuning"]])
    for name, each in found.items():
        rmse = np.array([one.rmse for one in each])
        down, share, up = (float(np.mean([getattr(one, key) for one in each])) for key in ("down", "share", "up"))
        unasked = "/".join(str(one.unasked) for one in each)
        numbers = f"{down:.2f}", f"{share:.2f}", f"{up:.2f}", unasked
        table.add_row(name, f"{rmse.mean():.4f}", f"{(rmse - first).mean():+.4f}", *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
