"""A table of the gains of depth, vectors and a user's own history in a network, beside `network`.

    python benchmarks/deeper.py [--data FOLDER] [--protocols warm] [--depths 0 1 2 3] [--vectors none items users both]
                                [--history none kriging] [--seeds 1] [--rounds 10] [--out FILE] [--cost]

Without --data it takes generated ratings. Depth 0 is no hidden layer, `plain` the layers of the preset, and from 1 on
there are residual blocks of 32 units. Every form has the same trials, which are judged on a fifth of the train rows of
the first seed; the best is trained on all rows of every seed and judged once on the test rows. Figures are RMSE on test
rows, means over seeds; `validation` is that of the best trial. The preset `network` is a form with trials of its
learning rate. Under protocol cold, users are judged that the shared model never saw. FILE keeps every figure as it is
done, and a second call goes on from there.

--cost prints the processor time of a round of each form in that of `network`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from zoo import Bench

from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.paired import paired_p_value
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
HISTORY: Mapping[str, Mapping[str, Any]] = {"none": {}, "kriging": {"user_level": "kriging"}}
STEPS = {"learning_rate": 0.001, "vector_rate": 0.02, "vector_penalty": 0.2, "tuning_epochs": 2}
# A user's head weighs hidden units: those of blocks are normalised, and without layers they are features.
PENALTIES: Mapping[bool, Sequence[Mapping[str, Any]]] = {
    True: ({"head_penalty": 10}, {"head_penalty": 30}),
    False: ({"head_penalty": 100}, {"head_penalty": 300}),
}


PLAIN = ("plain", "none", "none")


def trials_of(depth: str, vectors: str, history: str = "none") -> list[dict[str, Any]]:
    """The settings that are tried for a form."""
    form = {**DEPTHS[depth], **VECTORS[vectors], **HISTORY[history]}
    if vectors == "none" and (depth == "plain" or history != "none"):
        return [{**form, **rate} for rate in RATES]
    others = PENALTIES[depth == "plain"] if history == "none" else ({"vector_penalty": 0.2}, {"vector_penalty": 0.6})
    return [{**form, **STEPS, **other} for other in others]


def base_of(source: str, protocol: str, seed: int, rounds: int) -> dict[str, Any]:
    """The settings that all forms share."""
    shared = {"nodes": 8, "personal_nodes": 8, "partition": "users", "personal_partition": "users"}
    return {"source": source, "protocol": protocol, "seed": seed, "rounds": rounds, **shared}


def remembered(file: Path | None) -> Callable[[dict[str, Any], Callable[[], float]], float]:
    """Gives the figure of a case: the one that the file holds, or else a new one, which the file then holds."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    known = {line["case"]: line["rmse"] for line in map(json.loads, lines)}

    def figure(case: dict[str, Any], make: Callable[[], float]) -> float:
        name = json.dumps(case)
        if name not in known:
            known[name] = make()
            if file:
                with file.open("a") as held:
                    held.write(json.dumps({"case": name, "rmse": known[name]}) + "\n")
        return known[name]

    return figure


def cost(source: str, forms: Sequence[tuple[str, str, str]], console: Console, repeats: int = 3) -> None:
    """Print the least processor time of a round of each form."""
    bench = Bench.of(base_of(source, "warm", 0, 1))
    least: dict[tuple[str, str, str], float] = {}
    for form in [PLAIN, *forms]:
        method = bench.method(load_settings("network", {**bench.base, **trials_of(*form)[0]}), bench.nodes)
        begin, seconds = run_rounds(method, bench.nodes, 1), []
        for _ in range(repeats):
            began = time.process_time()
            run_rounds(method, bench.nodes, 2, begin=begin)
            seconds.append(time.process_time() - began)
        least[form] = min(seconds)
        relative = least[form] / least[PLAIN]
        told = f"depth {form[0]:5} vectors {form[1]:5} history {form[2]:7}"
        console.print(f"{told}  {1000 * least[form]:6.0f} ms a round  {relative:.2f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--protocols", nargs="+", default=["warm"])
    parser.add_argument("--depths", nargs="+", default=["0", "1", "2", "3"], choices=list(DEPTHS))
    parser.add_argument("--vectors", nargs="+", default=list(VECTORS), choices=list(VECTORS))
    parser.add_argument("--history", nargs="+", default=["none"], choices=list(HISTORY))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    forms = list(product(options.depths, options.vectors, options.history))
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if source is None:
            source = str(Path(folder) / "world")
            write_world(Path(source), **GENERATED)
        if options.cost:
            cost(source, forms, console)
            return
        table = Table(title=f"RMSE on test rows, {options.seeds} seeds, {options.rounds} rounds")
        for heading in ("protocol", "depth", "vectors", "history", "validation", "test", "less network", "p"):
            table.add_column(heading, justify="left" if heading == "protocol" else "right")
        figure = remembered(options.out)

        @cache
        def bench_of(protocol: str, seed: int) -> Bench:
            return Bench.of(base_of(source, protocol, seed, options.rounds))

        def rmse(protocol: str, seed: int, trial: Mapping[str, Any], test: bool) -> float:
            def run() -> float:
                bench = bench_of(protocol, seed)
                return bench.run("network", trial, bench.nodes if test else bench.trials).rmse

            about = {"protocol": protocol, "seed": seed, "rounds": options.rounds, "test": test, **trial}
            return figure(about, run)

        for protocol in options.protocols:
            reference = np.full(options.seeds, np.nan)
            for form in dict.fromkeys([PLAIN, *forms]):
                tried = [(rmse(protocol, 0, trial, False), trial) for trial in trials_of(*form)]
                best, trial = min(tried, key=lambda pair: pair[0])
                tested = np.array([rmse(protocol, seed, trial, True) for seed in range(options.seeds)])
                reference = tested if form == PLAIN else reference
                told = f"{best:.4f}", f"{tested.mean():.4f}", f"{(tested - reference).mean():+.4f}"
                p_value = paired_p_value(tested - reference)
                row = protocol, *form, *told, "" if p_value is None else f"{p_value:.3f}"
                console.print(*row, trial, highlight=False)
                table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
