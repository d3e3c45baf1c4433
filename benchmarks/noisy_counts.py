"""The cost of noise on the counts of raters alone, for the hierarchical model.

    python benchmarks/noisy_counts.py --data FOLDER

Discrete Gaussian noise on how many users have rated each item, so that these counts hide a user with up to MOST ratings
(others count with MOST of them), at several epsilons; the threshold is applied to the noisy count. All other sums are
exact, as now. Protocol `warm`, 8 nodes.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from hierarchical import rmse

from hierfed.data.division import assign, divide, load_dataset
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.private_prior.private_prior import _thinned
from hierfed.privacy.accounting import noise_multiplier_of
from hierfed.privacy.discrete_gaussian import discrete_gaussian, grid_of
from hierfed.private_randomness import foreseeable_streams
from hierfed.settings import load_settings

MOST, DELTA = 200, 1e-5


class NoisyCounts:
    """The method with other counts of raters, [items]."""

    def __init__(self, method: HierarchicalFactors, raters: torch.Tensor):
        self.method, self.raters = method, raters
        self.start, self.contribute, self.checks = method.start, method.contribute, method.checks

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """With the noisy counts in the place of the exact ones."""
        if not shared.arrays:
            total = Contribution({**total.arrays, "raters": self.raters})
        return self.method.combine(shared, total)


def main() -> None:
    """Print RMSE by epsilon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--epsilons", default="inf,8,2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings("hierarchical", {"source": options.data, "protocol": "warm", "seed": options.seed})
    dataset = load_dataset(settings)
    nodes, personal = assign(dataset, divide(dataset, settings), settings)
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    assert isinstance(method, HierarchicalFactors)
    rated = np.concatenate([_thinned(node.train).item for node in nodes])
    counts = torch.from_numpy(np.bincount(rated, minlength=dataset.items)).double()
    for epsilon in map(float, options.epsilons.split(",")):
        raters, deviation = counts, 0.0
        if math.isfinite(epsilon):
            deviation = noise_multiplier_of(epsilon, DELTA, accountant="rdp") * math.sqrt(MOST)
            stream = foreseeable_streams(options.seed).stream(1, 0, "noise: counts")
            raters = counts + discrete_gaussian(stream, deviation, grid_of(deviation), dataset.items)
        trained = run_rounds(NoisyCounts(method, raters), nodes, settings.training.rounds)
        found = rmse(personal, method.personalise(trained.shared, personal, trained.private))
        shared = int((raters >= method.threshold).sum())
        summed = f"{shared:,} of {dataset.items:,} items are summed"
        print(f"epsilon {epsilon:g}, deviation {deviation:.1f}: RMSE {found:.4f}, {summed}", flush=True)


if __name__ == "__main__":
    main()
