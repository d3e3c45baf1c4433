"""How many rounds does the hierarchical model take, with its momentum and without? And how many a network?

    python benchmarks/fewer_rounds.py --data FOLDER [--protocols warm,cold,temporal] [--seeds 5] [--rounds 16] [--keep]
    python benchmarks/fewer_rounds.py --data FOLDER --validation [--rounds 16] [--momentum 0.75]
    python benchmarks/fewer_rounds.py --data FOLDER --preset network [--validation] [--seeds 5] [--keep]

Each seed of a protocol is trained twice: PLAIN_ROUNDS rounds without momentum, and --rounds rounds (the preset's,
unless told otherwise) with the preset's momentum. Both models are judged with the users' kriging and without it, as
factors alone. The figures are RMSE on the personalisation users' held-out rows. benchmarks/best_figures.json keeps the
best means so far: one that is worse by more than DRIFT is told, and the exit code is 1. --keep writes what is better,
or new.

A network has the preset's rounds, and a third of them in each of the ways of FEWER. --validation judges on one in five
of the personalisation users' train rows, and keeps nothing.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

import torch
from attack import with_validation
from best_figures import compare
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import PLAIN, round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.settings import load_settings

PLAIN_ROUNDS = 50
# The targets: on average over the seeds of a protocol, and for every seed.
ON_AVERAGE, EACH = 0.0005, 0.0015
MODELS = ("hierarchical", "factors alone")
THIRD = {"rounds": load_settings("network").training.rounds // 3}
FEWER: Mapping[str, Mapping[str, object]] = {
    "as they are": {},
    "3 epochs": {"local_epochs": 3},
    "4 epochs": {"local_epochs": 4},
    "6 epochs": {"local_epochs": 6},
    "rate 0.006": {"learning_rate": 0.006},
    "server's rate 1.5": {"server_learning_rate": 1.5},
    "FedAvgM 0.5": {"server_optimizer": "avgm", "server_learning_rate": 0.5},
    "FedAvgM 1": {"server_optimizer": "avgm", "server_learning_rate": 1.0},
}
# Chosen on validation rows.
CHOSEN = "4 epochs"


def judge(options: argparse.Namespace, protocol: str, seed: int) -> dict[str, tuple[float, float]]:
    """For each of MODELS, RMSE after PLAIN_ROUNDS rounds without momentum, and after --rounds rounds with it."""
    common = {"source": options.data, "protocol": protocol, "seed": seed, "threads": 1}
    settings = load_settings("hierarchical", {**common, "momentum": options.momentum})
    dataset = load_dataset(settings)
    nodes, personal = assign(dataset, divide(dataset, settings), settings)
    if options.validation:
        # Rows that the same users learn from would judge nothing.
        held = [with_validation(node, seed) for node in personal]
        nodes, personal = held if personal is nodes else nodes, held
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    assert isinstance(method, HierarchicalFactors)
    found: dict[str, list[float]] = {name: [] for name in MODELS}
    for variant, count in ((replace(method, momentum=0.0), PLAIN_ROUNDS), (method, options.rounds)):
        trained = run_rounds(variant, nodes, count)
        private = trained.private if personal is nodes else [None] * len(personal)
        # Kriging is the users' own: no round knows of it.
        for name, kernel in zip(MODELS, (method.kernel, None), strict=True):
            judged = replace(variant, kernel=kernel).personalise(trained.shared, personal, private)
            found[name].append(rmse(personal, judged))
    return {name: (plain, fewer) for name, (plain, fewer) in found.items()}


def network(options: argparse.Namespace) -> dict[str, float]:
    """A line for each way to train in a third of the rounds; the mean RMSE of the chosen one, by its name."""
    ways = FEWER if options.validation else {CHOSEN: FEWER[CHOSEN]}
    found: dict[str, list[float]] = {name: [] for name in ("all rounds", *ways)}
    for seed in range(options.seeds):
        common = {"source": options.data, "seed": seed, "threads": 1}
        plain = load_settings("network", common)
        dataset = load_dataset(plain)
        nodes, personal = assign(dataset, divide(dataset, plain), plain)
        judged = [with_validation(node, seed) for node in personal] if options.validation else personal
        for name, errors in found.items():
            changes = {**common, **THIRD, **ways[name]} if name in ways else common
            settings = load_settings("network", changes)
            case = after_earlier_stages(Case(settings, dataset.catalogue, dataset.ratings.limits), nodes, PLAIN)
            method = prepare(case).method
            trained = run_rounds(method, nodes, settings.training.rounds, how=round_of(settings))
            errors.append(rmse(judged, method.personalise(trained.shared, judged, [None] * len(judged))))
    for name, errors in found.items():
        apart = [error - full for error, full in zip(errors, found["all rounds"], strict=True)]
        print(f"network, {name:17} {mean(errors):.5f}  {mean(apart):+.5f} (worst {max(apart):+.5f})", flush=True)
    return {f"network, a third of the rounds, {options.seeds} seeds": mean(found[CHOSEN])}


def main() -> None:
    """Print a line for each seed, model and protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--protocols", default="warm,cold,temporal")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=load_settings("hierarchical").training.rounds)
    told = "of the accelerated rounds"
    parser.add_argument("--momentum", type=float, default=load_settings("hierarchical").factors.momentum, help=told)
    parser.add_argument("--keep", action="store_true", help="write better figures to best_figures.json")
    parser.add_argument("--preset", choices=["hierarchical", "network"], default="hierarchical")
    parser.add_argument("--validation", action="store_true", help="of a network: judge on validation rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.preset == "network":
        kept = network(options)
        raise SystemExit(0 if options.validation else compare(kept, THIRD["rounds"], options.keep))
    figures: dict[str, float] = {}
    for protocol in options.protocols.split(","):
        runs = []
        for seed in range(options.seeds):
            runs.append(judge(options, protocol, seed))
            for name, (plain, fewer) in runs[-1].items():
                line = f"{protocol:8} {name:13} seed {seed}  {plain:.5f}  {fewer:.5f}  {fewer - plain:+.5f}"
                print(line, flush=True)
        for name in MODELS:
            pairs = [run[name] for run in runs]
            plain, fewer = (mean(values) for values in zip(*pairs, strict=True))
            worst = max(few - many for many, few in pairs)
            met = fewer - plain <= ON_AVERAGE and worst <= EACH
            print(
                f"{protocol:8} {name:13} mean    {plain:.5f}  {fewer:.5f}  {fewer - plain:+.5f} (worst {worst:+.5f}): "
                f"{options.rounds} rounds {'are' if met else 'ARE NOT'} as good as {PLAIN_ROUNDS} plain ones",
                flush=True,
            )
            figures[f"{name} {protocol}, {options.seeds} seeds"] = fewer
    raise SystemExit(compare(figures, options.rounds, options.keep))


if __name__ == "__main__":
    main()
