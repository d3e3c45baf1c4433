"""What do depth, item vectors and user vectors gain a network? A table of both, beside `network` and `hierarchical`.

    python benchmarks/deeper.py [--data FOLDER] [--protocols warm] [--depths 0 1 2 3] [--vectors none items users both]
                                [--seeds 1] [--rounds 10] [--cost]

Without --data it takes generated ratings. Depth 0 is no hidden layer, `plain` the layers of the preset, and from 1 on
there are residual blocks of 32 units. Every form has the same trials, which are judged on a fifth of the nodes' train
rows; the best is trained again on all of them and judged once on the test rows. Figures are RMSE on test rows, means
over seeds; `validation` is that of the best trial. The preset `network` is a form with trials of its learning rate.

--cost prints the processor time of a round of each form in that of `network`.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from zoo import Bench

from hierfed.engines.in_process import run_rounds
from hierfed.generated.files import write_world
from hierfed.settings import load_settings

GENERATED = {"users": 300, "items": 500, "ratings": 15_000, "seed": 0}
SIZE = 4
VECTORS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "items": {"item_vector_size": SIZE},
    "users": {"user_vector_size": SIZE},
    "both": {"item_vector_size": SIZE, "user_vector_size": SIZE},
}
DEPTHS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "0": {"hidden": []},
    **{str(depth): {"depth": depth, "hidden": [32]} for depth in range(1, 7)},
}
RATES: Sequence[Mapping[str, Any]] = ({"learning_rate": 0.003}, {"learning_rate": 0.001})
# A user's head weighs hidden units: those of blocks are normalised, and without layers they are features.
STEPS = {"learning_rate": 0.001, "vector_rate": 0.02, "vector_penalty": 0.2, "tuning_epochs": 2}
PENALTIES: Sequence[Mapping[str, Any]] = ({"head_penalty": 30}, {"head_penalty": 300})


def trials_of(depth: str, vectors: str) -> list[dict[str, Any]]:
    """The settings that are tried for a form."""
    form = {**DEPTHS[depth], **VECTORS[vectors]}
    if (depth, vectors) == ("plain", "none"):
        return [{**form, **rate} for rate in RATES]
    return [{**form, **STEPS, **penalty} for penalty in PENALTIES]


def base_of(source: str, protocol: str, seed: int, rounds: int) -> dict[str, Any]:
    """The settings that all forms share."""
    shared = {"nodes": 8, "personal_nodes": 8, "partition": "users", "personal_partition": "users"}
    return {"source": source, "protocol": protocol, "seed": seed, "rounds": rounds, **shared}


def cost(source: str, forms: Sequence[tuple[str, str]], console: Console, repeats: int = 3) -> None:
    """Print the least processor time of a round of each form."""
    bench = Bench.of(base_of(source, "warm", 0, 1))
    least: dict[tuple[str, str], float] = {}
    for form in [("plain", "none"), *forms]:
        method = bench.method(load_settings("network", {**bench.base, **trials_of(*form)[0]}), bench.nodes)
        begin, seconds = run_rounds(method, bench.nodes, 1), []
        for _ in range(repeats):
            began = time.process_time()
            run_rounds(method, bench.nodes, 2, begin=begin)
            seconds.append(time.process_time() - began)
        least[form] = min(seconds)
        relative = least[form] / least["plain", "none"]
        console.print(f"depth {form[0]:5} vectors {form[1]:5}  {1000 * least[form]:6.0f} ms a round  {relative:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--protocols", nargs="+", default=["warm"])
    parser.add_argument("--depths", nargs="+", default=["0", "1", "2", "3"], choices=list(DEPTHS))
    parser.add_argument("--vectors", nargs="+", default=list(VECTORS), choices=list(VECTORS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    forms = [(depth, vectors) for depth in options.depths for vectors in options.vectors]
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if source is None:
            source = str(Path(folder) / "world")
            write_world(Path(source), **GENERATED)
        if options.cost:
            cost(source, forms, console)
            return
        table = Table(title=f"RMSE on test rows, {options.seeds} seeds, {options.rounds} rounds")
        for heading in ("protocol", "depth", "vectors", "validation", "test", "less network"):
            table.add_column(heading, justify="left" if heading == "protocol" else "right")
        for protocol in options.protocols:
            bases = [base_of(source, protocol, seed, options.rounds) for seed in range(options.seeds)]
            benches = [Bench.of(base) for base in bases]
            reference = float("nan")
            for depth, vectors in [("plain", "none"), *forms]:
                checked, tested = [], []
                for bench in benches:
                    tried = [
                        (bench.run("network", trial, bench.trials).rmse, trial) for trial in trials_of(depth, vectors)
                    ]
                    best, trial = min(tried, key=lambda pair: pair[0])
                    checked.append(best)
                    tested.append(bench.run("network", trial, bench.nodes).rmse)
                    console.print(
                        f"{protocol} {depth:5} {vectors:5} {best:.4f} {tested[-1]:.4f} {trial}", highlight=False
                    )
                found = float(np.mean(tested))
                reference = found if (depth, vectors) == ("plain", "none") else reference
                row = protocol, depth, vectors, f"{np.mean(checked):.4f}", f"{found:.4f}", f"{found - reference:+.4f}"
                table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
