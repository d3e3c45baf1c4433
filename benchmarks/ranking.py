"""How good are recommendation lists on the full catalogue, and what do they cost?

    python benchmarks/ranking.py --data FOLDER [--seeds 5] [--nodes 8]

Protocol `warm`: a fifth of each user's rows is test. Lists rank the full catalogue without the items of the train rows;
the metrics are defined in hierfed/evaluation/ranking.py. Popularity is what lists must beat. CPU seconds are those of
the training of all nodes and the server, on one thread; bytes are what one node sends in all rounds. Seeds change the
split, the partition and the first factors; after ± stands the standard deviation over seeds.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array

from hierfed.data import splits
from hierfed.data.federation import Node, make_nodes
from hierfed.data.partitions import by_users
from hierfed.data.ratings import Dataset
from hierfed.data.reading.sources import load
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.evaluation.ranking import judge_ranking
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Scorer
from hierfed.methods.ranking.ease import Ease
from hierfed.methods.ranking.implicit import ImplicitFactors
from hierfed.methods.ranking.scores import Ranker, blend, popularity
from hierfed.methods.ranking.settings import RankingSettings
from hierfed.models.lists import rated_matrix
from hierfed.models.threads import one_torch_thread
from hierfed.randomness import generator

TEST_SHARE, LIKED = 0.2, 4.0
IMPLICIT_ROUNDS = 10


@dataclass(frozen=True)
class Cost:
    """CPU seconds of training, and bytes that a node sends."""

    seconds: float
    bytes: float


def by_model(method: Ranker, shared: SharedModel, rated: csr_array) -> Scorer:
    """The scores of a trained model for users by what each has rated; rated: [users, items]."""
    return lambda users: method.scores(shared, torch.from_numpy(rated[users.numpy()].toarray()))


def blend_of(scorers: Mapping[str, Scorer]) -> Scorer:
    """The scores of all of them, blended with the package's usual weights."""
    usual = RankingSettings()
    weights = {name: getattr(usual, f"{name}_weight") for name in scorers}
    return lambda users: blend({name: scorer(users) for name, scorer in scorers.items()}, weights)


def measure(
    dataset: Dataset, seed: int, nodes: int, rating: Callable[[Sequence[Node]], Scorer] | None = None
) -> dict[str, list[float]]:
    """NDCG@10, Recall@20, HR@10, NDCG@10 of liked items, seconds and bytes of each model on one seed.

    rating: trains a rating model on the nodes and gives its expected ratings as scores, to be blended with the others.
    """
    ratings, items = dataset.ratings, dataset.items
    split = splits.warm(ratings, test_share=TEST_SHARE, rng=generator(seed, 0, 0, "split"))
    train, test = ratings.take(split.train), ratings.take(split.test)
    node = by_users(ratings.user, nodes, generator(seed, 0, 0, "partition"))
    owners = make_nodes(train, node[split.train], test, node[split.test], nodes)
    rated = rated_matrix(train, dataset.users, items)
    raters = torch.from_numpy(rated.sum(0))

    scorers: dict[str, Scorer] = {}
    costs = {"popularity": Cost(0.0, raters.nbytes)}
    for name, method, rounds in (
        ("ease", Ease(items), 1),
        ("implicit", ImplicitFactors(items, seed), IMPLICIT_ROUNDS),
    ):
        finished: list[FinishedRound] = []
        began = time.process_time()
        shared = run_rounds(method, owners, rounds, finished.append).shared
        costs[name] = Cost(time.process_time() - began, sum(each.bytes_up for each in finished) / nodes)
        scorers[name] = by_model(method, shared, rated)
    if rating is not None:
        scorers["rating"] = rating(owners)
    blended = blend_of(dict(scorers))
    costs["blend"] = Cost(
        *(sum(getattr(costs[name], of) for name in ("ease", "implicit")) for of in ("seconds", "bytes"))
    )
    scorers = {"popularity": lambda users: popularity(raters, len(users)), **scorers, "blend": blended}

    judged = judge_ranking(scorers, train, test, items)
    liked = judge_ranking(scorers, train, test, items, relevant_from=LIKED)
    return {
        name: [
            metrics.ndcg_at_10,
            metrics.recall_at_20,
            metrics.hit_rate_at_10,
            liked[name].ndcg_at_10,
            costs[name].seconds if name in costs else np.nan,
            costs[name].bytes if name in costs else np.nan,
        ]
        for name, metrics in judged.items()
    }


def main() -> None:
    """Measure all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=8)
    options = parser.parse_args()

    dataset = load(options.data, unmatched="keep")
    with one_torch_thread():
        runs = [measure(dataset, seed, options.nodes) for seed in range(options.seeds)]
    title = f"{dataset.users:,} users, {dataset.items:,} items, {options.nodes} nodes, {options.seeds} seeds"
    table = Table(title=title)
    table.add_column("model")
    for heading in ("NDCG@10", "Recall@20", "HR@10", f"NDCG@10, ratings >= {LIKED:g}", "CPU seconds", "MB per node"):
        table.add_column(heading, justify="right")
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        mean, deviation = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        metrics = [f"{mean[column]:.4f} ± {deviation[column]:.4f}" for column in range(4)]
        table.add_row(name, *metrics, f"{mean[4]:.1f}", f"{mean[5] / 1e6:.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
