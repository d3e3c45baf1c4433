"""Does the blend of lists lose to one of its parts, or to lists of pooled rows?

    python benchmarks/ranking.py SOURCE... [--protocols warm,temporal,loo] [--seeds 5] [--rivals] [--set NAME=VALUE ...]

NDCG@10 on the full catalogue (hierfed/evaluation/ranking.py) of what `hierfed run hierarchical` judges: each part of
the blend, popularity and the blend, whose weights and penalties a run chooses on its own validation rows. A protocol
that needs times is left out, with a word, where a source has none. Under `temporal`, and under `loo` with times, there
is one split; seeds then change the nodes and the first factors.

With --rivals also EASE and the package implicit's ALS, on the rows of all nodes in one place. Their settings are the
best of a grid on the validation rows of seed 0, which the same protocol draws. After ± stands the standard deviation
over seeds, and for differences their standard error.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from statistics import mean, stdev

import numpy as np
import torch
from scipy.sparse import csr_array, csr_matrix

from hierfed.data import splits
from hierfed.data.division import allocate, load_dataset
from hierfed.data.ratings import Ratings
from hierfed.evaluation.ranking import judge_ranking
from hierfed.experiment import run_experiment
from hierfed.methods.ranking.ease import weights_of
from hierfed.models.lists import rated_matrix
from hierfed.settings import Settings, load_settings

PARTS = ("ease", "implicit", "rating", "popularity")
EASE = list(itertools.product((50.0, 100.0, 200.0, 400.0, 800.0), (1, 4)))
ALS = list(itertools.product((32, 64), (0.1, 1.0, 10.0), (1.0, 3.0, 10.0)))

Scores = Callable[[csr_array, int], np.ndarray]


def ease(penalty: float, least_raters: int) -> Scores:
    """EASE (Steck, 2019) on pooled rows; items with fewer raters come last, by how many they have."""

    def scores(seen: csr_array, seed: int) -> np.ndarray:
        raters = np.asarray(seen.sum(0)).ravel()
        known = np.flatnonzero(raters >= least_raters)
        some = seen[:, known]
        weights = weights_of(torch.from_numpy((some.T @ some).toarray() + penalty * np.eye(len(known)))).numpy()
        found = np.tile(1e-9 * raters, (seen.shape[0], 1))
        found[:, known] += some @ weights
        return found

    return scores


def als(factors: int, penalty: float, confidence: float) -> Scores:
    """Implicit alternating least squares (Hu, Koren and Volinsky, 2008) by the package implicit."""

    def scores(seen: csr_array, seed: int) -> np.ndarray:
        from implicit.als import AlternatingLeastSquares

        how = {"factors": factors, "regularization": penalty, "alpha": confidence, "iterations": 15}
        model = AlternatingLeastSquares(**how, num_threads=1, use_gpu=False, random_state=seed)
        model.fit(csr_matrix(seen, dtype=np.float32), show_progress=False)
        found: np.ndarray = (model.user_factors @ model.item_factors.T).astype(np.float64)
        return found

    return scores


def ndcg(scores: Scores, settings: Settings) -> float:
    """NDCG@10 of a rival on the rows that the settings judge on."""
    dataset = load_dataset(settings)
    parts = allocate(dataset, settings).parts()
    train, test = parts.personal
    found = torch.from_numpy(scores(rated_matrix(train, dataset.users, dataset.items), settings.seed))
    judged = judge_ranking({"": lambda users: found[users]}, train, test, dataset.items)
    return judged[""].ndcg_at_10


def tuned(candidates: list[Scores], settings: Settings) -> Scores:
    """The best candidate on validation rows."""
    split = settings.split.model_copy(update={"judged_on": "validation"})
    on_validation = settings.model_copy(update={"split": split})
    return max(candidates, key=lambda each: ndcg(each, on_validation))


def protocols_of(ratings: Ratings, wanted: list[str]) -> Iterator[str]:
    """The protocols that these ratings allow."""
    for protocol in wanted:
        if protocol == "temporal" and not splits.ordered(ratings):
            print("  temporal: left out, since no time tells ratings apart")
        else:
            yield protocol


def told(values: list[float], of_mean: bool = False) -> str:
    """Mean and standard deviation, or standard error."""
    spread = stdev(values) / (math.sqrt(len(values)) if of_mean else 1) if len(values) > 1 else math.nan
    return f"{mean(values):+.4f} ± {spread:.4f}" if of_mean else f"{mean(values):.4f} ± {spread:.4f}"


def compare(source: str, protocol: str, seeds: int, changes: dict[str, str], rivals: bool) -> None:
    """Print the figures of one source under one protocol."""
    every = [
        load_settings("hierarchical", {**changes, "data.source": source, "protocol": protocol, "seed": seed})
        for seed in range(seeds)
    ]
    found: dict[str, list[float]] = {}
    for settings in every:
        for each in run_experiment(settings).result.rankers:
            found.setdefault(each.model, []).append(each.ndcg_at_10)
    best = max(PARTS, key=lambda part: mean(found[part]))
    print(f"  {protocol}: " + ", ".join(f"{name} {told(values)}" for name, values in found.items()))
    beside = {best: found[best]}
    if rivals:
        grids = {"pooled EASE": [ease(*each) for each in EASE], "pooled ALS": [als(*each) for each in ALS]}
        for name, candidates in grids.items():
            rival = tuned(candidates, every[0])
            beside[name] = [ndcg(rival, settings) for settings in every]
            print(f"    {name} {told(beside[name])}")
    for name, values in beside.items():
        gains = [ours - theirs for ours, theirs in zip(found["blend"], values, strict=True)]
        print(f"    blend - {name}: {told(gains, of_mean=True)}", flush=True)


def main() -> None:
    """Judge each source under each protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--protocols", default="warm,temporal,loo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs, NAME=VALUE")
    options = parser.parse_args()
    changes = dict(each.split("=", 1) for each in options.set)
    for source in options.sources:
        print(source, flush=True)
        ratings = load_dataset(load_settings("hierarchical", {**changes, "data.source": source})).ratings
        for protocol in protocols_of(ratings, options.protocols.split(",")):
            compare(source, protocol, options.seeds, changes, options.rivals)


if __name__ == "__main__":
    main()
