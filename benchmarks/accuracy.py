"""How well are ratings predicted, and catalogues ranked, against the best that pools every rating in one place?

    python benchmarks/accuracy.py --data FOLDER [--protocols warm,temporal,cold] [--seeds 5] [--anchors all]
                                  [--out results.json] [--python INTERPRETER]

Every model is judged on the same test rows, those of `hierfed run --protocol PROTOCOL --seed SEED`: `warm` (a fifth of
each user's rows), `temporal` (each user's newest fifth; one split, so one seed) and `cold` (users whom no shared model
has seen). Each seed of each model is a process of its own on one thread, one after the other. Anchors learn from all
other rows in one place, under `cold` the newcomers' too; a federated model's rounds never see these. The bytes are what
a node sends on average: its rows, 12 bytes each, where they are pooled, and all rounds of a federation. With --out,
what is done is kept, and a second call goes on from there. Anchors that cannot be imported (extra `bench`) are named,
not skipped in silence; INTERPRETER runs the anchors, if their packages live elsewhere.
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
class Ruler:
    """What models are compared by: its key in an outcome, its name, and whether more (1) or less (-1) is better.

    others: keys and names of what is shown beside it.
    """

    key: str
    name: str
    sign: int
    others: tuple[tuple[str, str], ...] = ()


ERROR = Ruler("rmse", "RMSE", -1)
RANKING = Ruler("ndcg@10", "NDCG@10", 1, (("recall@20", "Recall@20"), ("hr@10", "HR@10")))


@dataclass(frozen=True)
class Model:
    """A row of a table: its name, and the script and options that make it.

    own: this package's, and no anchor. rulers: what it is compared by; its costs are those of the first.
    """

    name: str
    script: str
    options: tuple[str, ...] = ()
    own: bool = False
    rulers: tuple[Ruler, ...] = (ERROR,)


MODELS = (
    Model("biases", "biases.py"),
    Model("kNN", "knn.py"),
    Model("SVD", "svd.py"),
    Model("SVD++", "svd_plus_plus.py"),
    Model("gradient boosting", "gradient_boosting.py"),
    Model("Bayesian FM", "bayesian_fm.py"),
    Model("FedAvg biased MF", "federated_mf.py"),
    Model("local", "own.py", ("--preset", "local"), own=True),
    Model("hierarchical", "own.py", ("--preset", "hierarchical"), own=True, rulers=(ERROR, RANKING)),
    Model("popularity", "popularity.py", rulers=(RANKING,)),
    Model("EASE", "ease.py", rulers=(RANKING,)),
    Model("iALS", "implicit_als.py", rulers=(RANKING,)),
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


def tabulate(results: Results, protocol: str, ruler: Ruler) -> Table | None:
    """The table of a protocol: each model, and its paired differences to the best anchor; None without any results."""
    judged = [model for model in MODELS if ruler in model.rulers]
    figures = {
        model.name: {seed: float(found[ruler.key]) for seed, found in results.get(model.name, protocol).items()}
        for model in judged
    }
    if not any(figures.values()):
        return None
    anchors = [model.name for model in judged if not model.own and figures[model.name]]
    best = max(anchors, key=lambda name: ruler.sign * np.mean([*figures[name].values()]), default="")
    table = Table(title=f"protocol {protocol}: {ruler.name}" + (f"; best anchor: {best}" if best else ""))
    others = [name for _, name in ruler.others]
    columns = ("model", "seeds", ruler.name, *others, "less best anchor", "better on", "CPU seconds", "sent per node")
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in judged:
        mine = figures[model.name]
        if not mine:
            table.add_row(model.name, "not run")
            continue
        outcomes = results.get(model.name, protocol).values()
        common = [seed for seed in mine if model.name != best and seed in figures.get(best, {})]
        differences = [mine[seed] - figures[best][seed] for seed in common]
        better = sum(ruler.sign * difference > 0 for difference in differences)
        cpu, sent = (np.mean([float(found[key]) for found in outcomes]) for key in ("cpu_seconds", "sent_per_node"))
        costs = (f"{cpu:.1f}", f"{sent:,.0f}")
        table.add_row(
            f"{model.name} ({next(iter(outcomes))['version']})",
            str(len(mine)),
            spread([*mine.values()]),
            *(spread([float(found[key]) for found in outcomes]) for key, _ in ruler.others),
            spread(differences, signed=True) if differences else "",
            f"{better} of {len(differences)}" if differences else "",
            *(costs if ruler is model.rulers[0] else ("", "")),
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
                console.print(f"{model.name}, {protocol}, seed {seed}: {found[model.rulers[0].key]:.4f}")

    for table in (tabulate(results, protocol, ruler) for ruler in (ERROR, RANKING) for protocol in protocols):
        if table is not None:
            console.print(table)
    for name, error in missing.items():
        console.print(f"{name} did not run: {error}", markup=False)


if __name__ == "__main__":
    main()
