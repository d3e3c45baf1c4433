"""How well are ratings predicted, against the best that pools every rating in one place?

    python benchmarks/accuracy.py --data FOLDER [--protocols warm,temporal,cold] [--seeds 5] [--anchors all]
                                  [--out results.json] [--python INTERPRETER]

Every model is judged on the same test rows, those of `hierfed run --protocol PROTOCOL --seed SEED`: `warm` (a fifth of
each user's rows), `temporal` (each user's newest fifth; one split, so one seed) and `cold` (users whom no shared model
has seen). Each seed of each model is a process of its own on one thread, one after the other. Anchors learn from all
other rows in one place, under `cold` the newcomers' too; federated models never see these. With --out, what is done
is kept, and a second call goes on from there. Anchors that cannot be imported (extra `bench`) are named, not skipped
in silence; INTERPRETER runs the anchors, if their packages live elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ANCHORS = Path(__file__).parent / "anchors"
PROTOCOLS = ("warm", "temporal", "cold")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Outcome = dict[str, str | float]


@dataclass(frozen=True)
class Model:
    """A row of the table: its name, and the script and options that make it; own: this package's, and no anchor."""

    name: str
    script: str
    options: tuple[str, ...] = ()
    own: bool = False


MODELS = (
    Model("biases", "biases.py"),
    Model("kNN", "knn.py"),
    Model("SVD", "svd.py"),
    Model("SVD++", "svd_plus_plus.py"),
    Model("gradient boosting", "gradient_boosting.py"),
    Model("Bayesian FM", "bayesian_fm.py"),
    Model("FedAvg biased MF", "federated_mf.py"),
    Model("local", "own.py", ("--preset", "local"), own=True),
    Model("hierarchical", "own.py", ("--preset", "hierarchical"), own=True),
)


class Results:
    """Outcomes by model, protocol and seed, kept in a file as they come if there is one."""

    def __init__(self, file: Path | None, data: str) -> None:
        self.file, self.data = file, data
        self.runs: dict[str, dict[str, dict[str, Outcome]]] = {}
        if file is not None and file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["data"] != data:
                raise SystemExit(f"{file} holds results on {kept['data']}; choose another --out")
            self.runs = kept["runs"]

    def get(self, model: str, protocol: str) -> dict[int, Outcome]:
        """What a model has reached, by seed."""
        return {int(seed): outcome for seed, outcome in self.runs.get(model, {}).get(protocol, {}).items()}

    def add(self, model: str, protocol: str, seed: int, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.runs.setdefault(model, {}).setdefault(protocol, {})[str(seed)] = outcome
        if self.file is not None:
            partial = self.file.with_suffix(".partial")
            partial.write_text(json.dumps({"data": self.data, "runs": self.runs}, indent=1) + "\n", encoding="utf-8")
            partial.replace(self.file)


def run_model(model: Model, python: str, data: str, protocol: str, seed: int) -> Outcome | str:
    """Run one seed in a process of its own; gives what it printed, or the last line of its error."""
    command = [python, str(ANCHORS / model.script), *model.options]
    command += ["--data", data, "--protocol", protocol, "--seed", str(seed)]
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1]
    outcome: Outcome = json.loads(done.stdout.strip().splitlines()[-1])
    return outcome


def spread(values: list[float], signed: bool = False) -> str:
    """Mean and standard deviation of figures; the mean alone where there is one."""
    sign = "+" if signed else ""
    deviation = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.4f}{deviation}"


def tabulate(results: Results, protocol: str) -> Table | None:
    """The table of a protocol: each model, and its paired differences to the best anchor; None without any results."""
    errors = {
        model.name: {seed: float(outcome["rmse"]) for seed, outcome in results.get(model.name, protocol).items()}
        for model in MODELS
    }
    anchors = [model.name for model in MODELS if not model.own and errors[model.name]]
    if not any(errors.values()):
        return None
    best = min(anchors, key=lambda name: float(np.mean(list(errors[name].values()))), default=None)
    table = Table(title=f"protocol {protocol}: RMSE in stars" + (f"; best anchor: {best}" if best else ""))
    for heading in ("model", "seeds", "RMSE", "less best anchor", "better on", "CPU seconds", "bytes sent per node"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in MODELS:
        mine = errors[model.name]
        if not mine:
            table.add_row(model.name, "not run")
            continue
        outcomes = results.get(model.name, protocol).values()
        common = [seed for seed in mine if best not in (None, model.name) and seed in errors[best]]
        differences = [mine[seed] - errors[best][seed] for seed in common]
        table.add_row(
            f"{model.name} ({next(iter(outcomes))['version']})",
            str(len(mine)),
            spread(list(mine.values())),
            spread(differences, signed=True) if differences else "",
            f"{sum(difference < 0 for difference in differences)} of {len(differences)}" if differences else "",
            f"{np.mean([float(outcome['cpu_seconds']) for outcome in outcomes]):.1f}",
            f"{np.mean([float(outcome['sent_per_node']) for outcome in outcomes]):,.0f}",
        )
    return table


def main() -> None:
    """Run what is not yet done and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="a source of ratings, as for `hierfed run`")
    parser.add_argument("--protocols", default=",".join(PROTOCOLS))
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to SEEDS - 1")
    parser.add_argument("--anchors", default="all", help="names of models, separated by commas")
    parser.add_argument("--out", type=Path, help="a JSON file that keeps the results")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the anchors")
    options = parser.parse_args()
    protocols = options.protocols.split(",")
    wanted = [model.name for model in MODELS] if options.anchors == "all" else options.anchors.split(",")
    unknown = {*wanted} - {model.name for model in MODELS} | {*protocols} - {*PROTOCOLS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(model.name for model in MODELS)}")

    console = Console(width=140)
    results = Results(options.out, options.data)
    missing: dict[str, str] = {}
    for model in (model for model in MODELS if model.name in wanted):
        python = sys.executable if model.own else options.python
        for protocol in protocols:
            seeds = range(1 if protocol == "temporal" else options.seeds)
            for seed in sorted({*seeds} - {*results.get(model.name, protocol)}):
                found = run_model(model, python, options.data, protocol, seed)
                if isinstance(found, str):
                    missing[f"{model.name}, {protocol}, seed {seed}"] = found
                    break
                results.add(model.name, protocol, seed, found)
                console.print(f"{model.name}, {protocol}, seed {seed}: {found['rmse']:.4f}")

    for protocol in protocols:
        table = tabulate(results, protocol)
        if table is not None:
            console.print(table)
    for name, error in missing.items():
        console.print(f"{name} did not run: {error}", markup=False)


if __name__ == "__main__":
    main()
