"""Which way of making a network the node's own is best on ratings? The personalised zoo at equal budgets.

    python benchmarks/zoo.py [--data FOLDER] [--seeds 3] [--rounds 20] [--nodes 8] [--partition genre]
                             [--concentration 0.1] [--users none] [--cost]

Without --data it takes generated ratings. Protocol warm: the federated users themselves are judged. Every method makes
the same local steps and sends a network's change each round. Each is tuned by three trials on a fifth of the nodes'
train rows, trained again on all of them for the same rounds, and judged once on the test rows. Figures are RMSE over
test rows, means over seeds; `harmed` is the share of nodes that a network on their rows alone serves better; p-values
are of paired t-tests against FedAvg with fine-tuning, corrected by Holm's method. --users ridge_head gives every user a
head on top, as the preset does. Beside them: the network on each node alone, the hierarchical model, item biases.

--cost trains nothing to the end: it prints the processor time of a round per gradient evaluated, in FedAvg's.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.data.splits import hold_out
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.evaluation.paired import paired_p_value
from hierfed.generated.files import write_world
from hierfed.methods import Case, prepare
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.randomness import generator
from hierfed.settings import Settings, load_settings

GENERATED = {"users": 300, "items": 500, "ratings": 15_000, "seed": 0}
FINE = {"node_level": "fine_tuning", "tuning_epochs": 4}
REFERENCE, ALONE = "FedAvg + fine-tuning", "alone"
RATES = [{"learning_rate": rate} for rate in (0.001, 0.003, 0.01)]
TUNING = [{"tuning_learning_rate": rate} for rate in (0.0003, 0.001, 0.005)]


@dataclass(frozen=True)
class Entry:
    """A method of the zoo: its settings, the trials that tune it, and gradients evaluated in a local step."""

    settings: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    evaluations: float = 1


def strengths(*values: float) -> list[dict[str, float]]:
    """Trials of own_strength."""
    return [{"own_strength": value} for value in values]


ZOO = {
    "FedAvg": Entry({}, RATES),
    REFERENCE: Entry(FINE, TUNING),
    "LP-FT": Entry({**FINE, "node_level": "head_first", "tuning_epochs": 2}, TUNING),
    "FedPer": Entry({"kept": "head"}, RATES),
    "FedRep": Entry({"kept": "head", "turns": ["head", "body"], "local_epochs": 1}, RATES),
    "FedBABU": Entry({**FINE, "turns": ["body"]}, TUNING),
    "LG-FedAvg": Entry({"kept": "body"}, RATES),
    "Ditto": Entry({"own_model": "ditto", "own_rate": 0.003}, strengths(0.01, 0.1, 1), 2),
    "APFL": Entry({"own_model": "apfl"}, strengths(0.25, 0.5, 0.75), 2),
    "pFedMe": Entry({"own_model": "pfedme", "own_rate": 0.03}, strengths(1, 5, 15)),
    "Per-FedAvg": Entry({"own_model": "per_fedavg"}, [{"own_rate": rate} for rate in (0.003, 0.01, 0.03)], 2),
    # The weights learn for one epoch beside two of the model.
    "FedALA": Entry({"own_model": "fedala"}, [{"own_rate": rate} for rate in (0.1, 0.3, 1.0)], 1.5),
}


@dataclass(frozen=True)
class Found:
    """RMSE over all judged rows and of each node, and the bytes that a node sent."""

    rmse: float
    nodes: np.ndarray
    bytes_up: float = 0.0


def judged(nodes: Sequence[Node], models: Sequence[Any], bytes_up: float = 0.0) -> Found:
    """The errors of each node's model on its test rows."""
    pairs = [(node, model) for node, model in zip(nodes, models, strict=True) if len(node.test)]
    squares = [np.square(model.predict(node.test).numpy() - node.test.value) for node, model in pairs]
    rmse = float(np.sqrt(np.concatenate(squares).mean()))
    return Found(rmse, np.array([np.sqrt(each.mean()) for each in squares]), bytes_up)


def reduced(nodes: Sequence[Node], seed: int) -> list[Node]:
    """The nodes with a fifth of their train rows in the place of their test rows."""
    found = []
    for node in nodes:
        rng = generator(seed, 0, node.number, "zoo: validation")
        kept, held = hold_out(np.arange(len(node.train)), 0.2, rng)
        found.append(replace(node, train=node.train.take(kept), test=node.train.take(held)))
    return found


@dataclass(frozen=True)
class Bench:
    """One seed's data: the nodes with their test rows, and with validation rows in their place.

    new: the same two of the nodes that are judged, where new users are; None where the nodes that learn are.
    """

    base: dict[str, Any]
    case: Case
    nodes: Sequence[Node]
    trials: Sequence[Node]
    new: tuple[Sequence[Node], Sequence[Node]] | None = None

    @classmethod
    def of(cls, base: dict[str, Any]) -> "Bench":
        """Load, divide and hold out."""
        settings = load_settings("network", base)
        dataset = load_dataset(settings)
        nodes, personal = assign(dataset, divide(dataset, settings), settings)
        whole = list(nodes)
        new = None if personal is nodes else (list(personal), reduced(list(personal), settings.seed))
        case = Case(settings, dataset.catalogue, dataset.ratings.limits)
        return cls(base, case, whole, reduced(whole, settings.seed), new)

    def run(self, preset: str, changes: Mapping[str, Any], nodes: Sequence[Node]) -> Found:
        """Train and judge on these nodes' test rows."""
        settings = load_settings(preset, {**self.base, **changes})
        method = self.method(settings, nodes)
        up = 0

        def add(finished: Any) -> None:
            nonlocal up
            up += finished.bytes_up

        trained = run_rounds(method, nodes, settings.training.rounds, add)
        private: Sequence[Any] = trained.private
        users = nodes
        if self.new is not None:
            users = self.new[1 if nodes is self.trials else 0]
            private = [None] * len(users)
        return judged(users, method.personalise(trained.shared, users, private), up / len(nodes))

    def alone(self, changes: Mapping[str, Any], nodes: Sequence[Node]) -> Found:
        """The network on each node's rows alone, for as many rounds."""
        settings = load_settings("network", {**self.base, **changes})
        method = self.method(settings, nodes)
        assert isinstance(method, FederatedAveraging)
        rows = method.train_alone(nodes, settings.training.rounds)
        models = [method.restorer(replace(method.start(), arrays={"parameters": row}))({}) for row in rows]
        return judged(nodes, models)

    def method(self, settings: Settings, nodes: Sequence[Node]) -> Any:
        """The method of these settings, after its earlier stages."""
        case = after_earlier_stages(replace(self.case, settings=settings), nodes, round_of(settings))
        return prepare(case).method


def holm(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """Holm's step-down correction of the p-values that are defined."""
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    corrected, largest = {}, 0.0
    for place, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - place) * p))
        corrected[name] = largest
    return corrected


def of_seed(base: dict[str, Any], console: Console) -> dict[str, Found]:
    """Every method, tuned on validation rows and judged on test rows."""
    bench, found = Bench.of(base), {}
    for name, entry in ZOO.items():
        trials = [{**entry.settings, **trial} for trial in entry.trials]
        best = min(trials, key=lambda trial: bench.run("network", trial, bench.trials).rmse)
        found[name] = bench.run("network", best, bench.nodes)
        console.print(f"seed {base['seed']}  {name:20}  {found[name].rmse:.4f}  {best}", highlight=False)
    best = min(RATES, key=lambda trial: bench.alone(trial, bench.trials).rmse)
    found[ALONE] = bench.alone(best, bench.nodes)
    for preset in ("hierarchical", "item_biases"):
        own = {"rounds": load_settings(preset).training.rounds} if preset == "hierarchical" else {}
        plain = {key: bench.base[key] for key in bench.base if key not in ("rounds", "user_level", "node_level")}
        settings = {**plain, **own}
        found[preset] = replace(bench, base=settings).run(preset, {}, bench.nodes)
    return found


def cost(base: dict[str, Any], console: Console, repeats: int = 4) -> None:
    """Print the least processor time of a round per evaluation, all methods in turn, relative to FedAvg's."""
    bench, least = Bench.of({**base, "seed": 0}), dict.fromkeys(ZOO, float("inf"))
    methods, starts = {}, {}
    for name, entry in ZOO.items():
        settings = load_settings("network", {**base, **entry.settings})
        methods[name] = bench.method(settings, bench.nodes)
        starts[name] = run_rounds(methods[name], bench.nodes, 1)
    for _ in range(repeats):
        for name, method in methods.items():
            began = time.process_time()
            run_rounds(method, bench.nodes, 2, begin=starts[name])
            least[name] = min(least[name], time.process_time() - began)
    for name, seconds in least.items():
        each = seconds / ZOO[name].evaluations
        console.print(f"{name:20}  {1000 * seconds:6.1f} ms a round  {each / least['FedAvg']:.2f} of FedAvg's")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--partition", default="genre")
    parser.add_argument("--concentration", type=float, default=0.1)
    parser.add_argument("--users", default="none", choices=("none", "bias", "ridge_head"))
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if source is None:
            source = str(Path(folder) / "world")
            write_world(Path(source), **GENERATED)
        base = {
            "source": source,
            "protocol": "warm",
            "nodes": options.nodes,
            "personal_nodes": options.nodes,
            "partition": options.partition,
            "personal_partition": options.partition,
            "concentration": options.concentration,
            "rounds": options.rounds,
            "user_level": options.users,
            "node_level": "none",
        }
        if options.cost:
            cost(base, console)
            return
        seeds = [of_seed({**base, "seed": seed}, console) for seed in range(options.seeds)]

    def differences(name: str) -> np.ndarray:
        return np.array([found[name].rmse - found[REFERENCE].rmse for found in seeds])

    p_values = holm({name: paired_p_value(differences(name)) for name in seeds[0] if name != REFERENCE})
    table = Table(title=f"{options.nodes} nodes by {options.partition}, {options.rounds} rounds, {options.seeds} seeds")
    for heading in ("method", "RMSE", "sd", "less the reference", "p (Holm)", "harmed", "KB up", "gradients a step"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name in seeds[0]:
        values = np.array([found[name].rmse for found in seeds])
        harmed = np.mean([np.mean(found[name].nodes > found[ALONE].nodes) for found in seeds])
        table.add_row(
            name,
            f"{values.mean():.4f}",
            f"{values.std(ddof=1):.4f}" if len(values) > 1 else "",
            f"{differences(name).mean():+.4f}",
            f"{p_values[name]:.3f}" if name in p_values else "",
            f"{harmed:.0%}",
            f"{np.mean([found[name].bytes_up for found in seeds]) / 1e3:.0f}",
            str(ZOO[name].evaluations) if name in ZOO else "",
        )
    console.print(table)


if __name__ == "__main__":
    main()
