"""How many rounds does the hierarchical model take, with its momentum and without?

    python benchmarks/fewer_rounds.py --data FOLDER [--protocols warm,cold,temporal] [--seeds 5] [--rounds 16]
                                      [--keep] [--factors]

Each seed of a protocol is trained twice: PLAIN_ROUNDS rounds without momentum, and --rounds rounds (the preset's,
unless told otherwise) with the preset's momentum. The figures are RMSE on the personalisation users' held-out rows.
benchmarks/best_figures.json keeps the best means of the preset so far: one that is worse by more than DRIFT is told,
and the exit code is 1. --keep writes what is better, or new. --factors leaves kriging out, and keeps nothing.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.engines.in_process import run_rounds
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.settings import load_settings

BEST = Path(__file__).parent / "best_figures.json"
PLAIN_ROUNDS, DRIFT = 50, 0.0005
# The targets: on average over the seeds of a protocol, and for every seed.
ON_AVERAGE, EACH = 0.0005, 0.0015


def judge(source: str, protocol: str, seed: int, rounds: int, krige: bool) -> tuple[float, float]:
    """RMSE after PLAIN_ROUNDS rounds without momentum, and after `rounds` rounds with it."""
    settings = load_settings("hierarchical", {"source": source, "protocol": protocol, "seed": seed, "threads": 1})
    dataset = load_dataset(settings)
    nodes, personal = assign(dataset, divide(dataset, settings), settings)
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    assert isinstance(method, HierarchicalFactors)
    if not krige:
        method = replace(method, kernel=None)
    found = []
    for variant, count in ((replace(method, momentum=0.0), PLAIN_ROUNDS), (method, rounds)):
        trained = run_rounds(variant, nodes, count)
        private = trained.private if personal is nodes else [None] * len(personal)
        found.append(rmse(personal, variant.personalise(trained.shared, personal, private)))
    return found[0], found[1]


def main() -> None:
    """Print a line for each seed and each protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--protocols", default="warm,cold,temporal")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=load_settings("hierarchical").training.rounds)
    parser.add_argument("--keep", action="store_true", help="write better figures to best_figures.json")
    parser.add_argument("--factors", action="store_true", help="without kriging")
    options = parser.parse_args()
    torch.set_num_threads(1)
    best = json.loads(BEST.read_text(encoding="utf-8")) if BEST.is_file() else {}
    drifted = False
    for protocol in options.protocols.split(","):
        runs = []
        for seed in range(options.seeds):
            runs.append(judge(options.data, protocol, seed, options.rounds, not options.factors))
            plain, fewer = runs[-1]
            print(f"{protocol:9} seed {seed}  {plain:.5f}  {fewer:.5f}  {fewer - plain:+.5f}", flush=True)
        plain, fewer = (mean(values) for values in zip(*runs, strict=True))
        worst = max(few - many for many, few in runs)
        met = fewer - plain <= ON_AVERAGE and worst <= EACH
        print(
            f"{protocol:9} mean    {plain:.5f}  {fewer:.5f}  {fewer - plain:+.5f} (worst {worst:+.5f}): "
            f"{options.rounds} rounds {'are' if met else 'ARE NOT'} as good as {PLAIN_ROUNDS} plain ones",
            flush=True,
        )
        if options.factors:
            continue
        key = f"hierarchical {protocol}, {options.seeds} seeds"
        if key in best and fewer - best[key]["rmse"] > DRIFT:
            drifted = True
            print(f"{protocol:9} DRIFTED from the best figure so far, {best[key]['rmse']:.5f}", flush=True)
        if options.keep and (key not in best or fewer < best[key]["rmse"]):
            best[key] = {"rmse": round(fewer, 6), "rounds": options.rounds}
            BEST.write_text(json.dumps(best, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    raise SystemExit(drifted)


if __name__ == "__main__":
    main()
