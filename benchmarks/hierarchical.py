"""What each part of the hierarchical model is worth: factors, kriging, the rare-item threshold, the local model.

    python benchmarks/hierarchical.py --data FOLDER [--protocols warm,temporal,cold] [--seeds 5]

Prints RMSE on the personalisation users' held-out rows, mean and standard deviation over seeds, and of every seed.
"""

import argparse
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import torch

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.private import PersonalModel
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.local.local import LocalOnly
from hierfed.settings import load_settings


def rmse(nodes: list[Node], models: list[PersonalModel]) -> float:
    """Over the test rows of all nodes."""
    errors = []
    for node, model in zip(nodes, models, strict=True):
        rows: Ratings = node.test.untimed
        errors.append(model.predict(rows).numpy() - rows.value)
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def judge(source: str, protocol: str, seed: int) -> dict[str, float]:
    """One seed of a protocol: every variant's RMSE."""
    settings = load_settings("hierarchical", {"source": source, "protocol": protocol, "seed": seed})
    dataset = load_dataset(settings)
    split = divide(dataset, settings)
    nodes, personal = assign(dataset, split, settings)
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    assert isinstance(method, HierarchicalFactors)
    found = {}
    for threshold in (0, settings.factors.min_raters):
        trained = run_rounds(replace(method, threshold=threshold), nodes, settings.training.rounds)
        private = trained.private if personal is nodes else [None] * len(personal)
        for name, kernel in (("factors", None), ("with kriging", method.kernel)):
            variant = replace(method, threshold=threshold, kernel=kernel)
            models = variant.personalise(trained.shared, personal, private)
            found[f"{name}, threshold {threshold}"] = rmse(personal, models)
    local = LocalOnly(method.content, method.limits, method.threads)
    found["local"] = rmse(personal, local.personalise(local.start(), personal, [None] * len(personal)))
    return found


def main() -> None:
    """Print a table for each protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--protocols", default="warm,temporal,cold")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for protocol in options.protocols.split(","):
        # The newest rows of each user are the same for every seed; only the factors' start is drawn anew.
        seeds = range(1 if protocol == "temporal" else options.seeds)
        runs = [judge(options.data, protocol, seed) for seed in seeds]
        print(f"\n{protocol}, {len(runs)} seeds")
        for name in runs[0]:
            values = [run[name] for run in runs]
            spread = stdev(values) if len(values) > 1 else 0.0
            told = " ".join(f"{value:.4f}" for value in values)
            print(f"  {name:26} {mean(values):.4f} ± {spread:.4f}   {told}", flush=True)


if __name__ == "__main__":
    main()
