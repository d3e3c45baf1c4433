"""What it costs that nodes are told classes of raters: the hierarchical model's RMSE, and EASE's lists.

    python benchmarks/rater_classes.py --data FOLDER [--seeds 3] [--set repeats=last] [--rank-items]

Protocol `warm`, on validation rows: one in five of each node's train rows. A line for exact numbers, and for each
number of classes per doubling. --rank-items also trains EASE, and prints NDCG@10 of its lists and those by popularity.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import mean
from unittest.mock import patch

import numpy as np
import torch
from attack import with_validation
from hierarchical import rmse

from hierfed.cli.options import parse_assignments
from hierfed.data import rater_classes
from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.federated.stage import RATING
from hierfed.methods import Case, prepare
from hierfed.methods.ranking.choice import judged_users, ndcg_of_lists
from hierfed.methods.ranking.scores import popularity
from hierfed.methods.ranking.stages import ease_of
from hierfed.settings import load_settings

PER_DOUBLING = (None, 4, 2, 1)
ROOM = "hierfed.methods"


def exactly(numbers: np.ndarray, threshold: float) -> np.ndarray:
    """The numbers themselves, 0 below the threshold."""
    return np.where(numbers >= max(threshold, 1), numbers, 0.0)


def changes(classes: int | None) -> Iterator[object]:
    """What makes so many classes per doubling, or none."""
    if classes is not None:
        yield patch.object(rater_classes, "CLASSES_PER_DOUBLING", classes)
        return
    for place in ("hierarchical.opening", "ranking.scores"):
        yield patch(f"{ROOM}.{place}.rounded_up", exactly)
    for place in ("hierarchical.items", "ranking.ease"):
        yield patch(f"{ROOM}.{place}.next_edge", lambda numbers: numbers.copy())
    yield patch(f"{ROOM}.ranking.ease.in_order", lambda numbers, edges: np.where(edges > 0, numbers, 0.0))
    yield patch(f"{ROOM}.ranking.stages.whole_classes_from", lambda threshold: threshold)
    yield patch(f"{ROOM}.ranking.ease.STEP", 2.0**-40)


def judge(data: str, seed: int, given: dict[str, object], rank_items: bool) -> list[float]:
    """RMSE, and NDCG@10 of EASE and of popularity."""
    settings = load_settings("hierarchical", {"source": data, "protocol": "warm", "seed": seed, "threads": 1, **given})
    dataset = load_dataset(settings)
    nodes: list[Node] = [
        with_validation(node, seed) for node in assign(dataset, divide(dataset, settings), settings)[0]
    ]
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    trained = run_rounds(method, nodes, settings.training.rounds)
    found = [rmse(nodes, method.personalise(trained.shared, nodes, trained.private))]
    if rank_items:
        ease = ease_of(settings, method.content, {RATING: trained.shared})
        lists = run_rounds(ease, nodes, 1).shared
        pairs = []
        for _, users in judged_users(nodes, dataset.items, 10**6, seed):
            scores = ease.scores(lists, users.own), popularity(lists, len(users.users))
            pairs.append(torch.stack([ndcg_of_lists(each, users) for each in scores]))
        found += torch.cat(pairs, 1).mean(1).tolist()
    return found


def main() -> None:
    """Print a line for each grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--rank-items", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    given = parse_assignments(options.set, "repeats=last")
    for classes in PER_DOUBLING:
        with ExitStack() as stack:
            for change in changes(classes):
                stack.enter_context(change)  # type: ignore[arg-type]
            found = [judge(options.data, seed, given, options.rank_items) for seed in range(options.seeds)]
        means = [mean(column) for column in zip(*found, strict=True)]
        told = "exact" if classes is None else f"{classes} a doubling"
        each = " ".join(f"{seed[0]:.5f}" for seed in found)
        lists = f"; NDCG@10 of EASE {means[1]:.4f}, of popularity {means[2]:.4f}" if options.rank_items else ""
        print(f"{told:13} RMSE {means[0]:.5f} ({each}){lists}", flush=True)


if __name__ == "__main__":
    main()
