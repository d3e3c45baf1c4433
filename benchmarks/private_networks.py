"""What does differential privacy cost a federated network?

    python benchmarks/private_networks.py [--data FOLDER] [--seeds 3]

The preset `network`, which begins at random here, since its usual beginning is a sum of ratings: unit `example` (each
rating is hidden, by DP-SGD) at several epsilon, unit `node` with 8 and 64 nodes at epsilon 8, and no privacy. RMSE is
that of the global model on test rows, and after personalisation (a private bias and head for each user, which cost
nothing) on held-out rows; mean and standard deviation over seeds. No setting was chosen by these figures: the clip norm
is 1, and rounds, batches and learning rate are the preset's.
"""

import argparse
import math
import sys
from statistics import mean, stdev
from typing import Any

from hierfed.experiment import run_experiment
from hierfed.results import Result
from hierfed.settings import load_settings

EPSILONS = (1.0, 2.0, 4.0, 8.0)
NODE = {"privacy_unit": "node", "secure_sums": True, "epsilon": 8.0}


def runs() -> dict[str, dict[str, Any]]:
    """The settings of each row of the table."""
    found: dict[str, dict[str, Any]] = {
        f"example, epsilon {epsilon:g}": {"privacy_unit": "example", "epsilon": epsilon} for epsilon in EPSILONS
    }
    found["8 nodes, no privacy"] = {}
    for nodes in (8, 64):
        found[f"node, {nodes} nodes, epsilon 8"] = {**NODE, "nodes": nodes}
    found["64 nodes, no privacy"] = {"nodes": 64}
    return found


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):8.4f} ± {deviation:.4f}"


def noise(result: Result) -> str:
    """The noise multiplier of the node with most noise, and how many releases it has."""
    if result.privacy is None:
        return f"{'-':>8} {'-':>8}"
    most = max(result.privacy.releases, key=lambda release: release.noise_multiplier)
    return f"{most.noise_multiplier:8.4f} {most.count:8d}"


def main() -> None:
    """Run each row's seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':26} {'noise':>8} {'releases':>8} {'spent':>7} {'global':>17} {'personal':>17} {'train, s':>9}")
    for name, changes in runs().items():
        results = []
        for seed in range(options.seeds):
            overrides = {"data.source": options.data, "output_bias": "random", "seed": seed, **changes}
            results.append(run_experiment(load_settings("network", overrides)).result)
        privacy = results[0].privacy
        figures = spread([each.final_rmse for each in results]), spread([each.users.rmse_after for each in results])
        seconds = min(each.seconds.train for each in results)
        spent = math.inf if privacy is None else privacy.epsilon_spent
        print(f"{name:26} {noise(results[0])} {spent:7.3f} {figures[0]} {figures[1]} {seconds:9.2f}", flush=True)
        if privacy is not None and privacy.warning:
            print(f"  {privacy.warning}", file=sys.stderr)
    baselines = results[0].baselines, results[0].personal_baselines
    told = (f"{each.global_mean:.4f} and {each.biases:.4f}" for each in baselines)
    print(f"predicting the mean, and user and item biases, seed 0: {', '.join(told)}")


if __name__ == "__main__":
    main()
