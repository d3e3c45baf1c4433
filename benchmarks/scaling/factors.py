"""Rounds of the hierarchical model with every user a node, on generated ratings: one size, in this process.

    python benchmarks/scaling/factors.py FOLDER [--rounds 20] [--threads 2] [--chunk-rows 262144] [--judge]
                                         [--profile] [--device cpu]

FOLDER: as `hierfed data make` writes it; of each user's ratings one in fifty is held out. Prints one line of JSON:
seconds of a round, its floor, the most memory, the model's digest; and with --judge the RMSE on the held-out ratings of
the users' own models (without kriging), of the Bayes predictor that knows the truth, and, for some users, of one that
knows all of it but the users (films_known.py). With --profile, where the time of one more round goes, on one thread.

The floor counts a multiplication and an addition as two, and of each rating: the products with the items' second
moments and means and back (4 products with a sparse matrix) and the cross products with f_i forth and back; of each
user, a Cholesky inverse. Of bytes it counts what these read and write once each: nothing for finding the places, for
assembling matrices, for priors or for the server.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from films_known import know_films
from floor import measure_rates

from hierfed.data.division import Allocation, allocate, load_dataset
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import FinishedRound, Trained, run_rounds
from hierfed.generated.files import read_truth
from hierfed.methods import Case, prepare
from hierfed.methods.hierarchical.factor_states import PooledStates
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

RANK, THRESHOLD = 8, 5
HELD_OUT = 0.02
NUMBER = 8  # bytes


def load(folder: Path, threads: int, chunk_rows: int, device: str) -> tuple[Allocation, HierarchicalFactors]:
    """Every user a node, and the method."""
    truth = read_truth(folder)
    nodes = {"federation.nodes": len(truth.user_bias), "personal_nodes": len(truth.user_bias)}
    chosen = {
        "rank": RANK,
        "min_raters": THRESHOLD,
        "threads": threads,
        "chunk_rows": chunk_rows,
        "device": device,
        "protocol": "warm",
        "test_share": HELD_OUT,
        "krige": False,
    }
    settings = load_settings("hierarchical", {"source": str(folder), **nodes, **chosen})
    allocation = allocate(load_dataset(settings), settings)
    dataset, settings = allocation.dataset, allocation.settings
    limits = settings.data.limits(dataset.ratings.limits)
    method = prepare(Case(settings, dataset.catalogue, limits)).method
    assert isinstance(method, HierarchicalFactors)
    return allocation, method


def floor_of_a_round(ratings: int, users: int, rank: int, slopes: int) -> tuple[float, float]:
    """Floating point operations, and bytes."""
    size, content = 1 + rank, 1 + slopes
    packed, user_size = size * (size + 1) // 2, rank + content
    per_rating = 2 * (2 * packed + 3 * size) + 2 * 2 * size * content
    # Of a rating: the item's row of each product, and both gathered vectors written and read again; back, the user's
    # rows, the gathered content, and the product written and read.
    moved = (packed + size) + 3 * (size + content) + (packed + size) + 3 * content + 2 * size
    per_user, matrices = user_size**3, 6 * user_size**2
    return ratings * per_rating + users * per_user, NUMBER * (ratings * moved + users * matrices)


def judge(allocation: Allocation, method: HierarchicalFactors, trained: Trained, folder: Path) -> dict[str, float]:
    """RMSE on the held-out ratings: the users' own models, the Bayes predictor, and what it expects of itself."""
    held = allocation.dataset.ratings.take(allocation.split.personal_test)
    # Once more with the final items, whose factors the users' posteriors then speak of.
    _, states = method.contribute_pooled(trained.shared, allocation.nodes, trained.private)
    assert isinstance(states, PooledStates)
    assert states.memory is not None
    place = np.empty(allocation.dataset.users, np.int64)
    place[states.cohort.users] = np.arange(len(states.cohort))
    knowledge, squares = method.knowledge(trained.shared), 0.0
    beliefs, scale = knowledge.beliefs, knowledge.scale
    for rows in _blocks(held):
        item = torch.from_numpy(rows.item).long()
        mean = states.memory.mean[torch.from_numpy(place[rows.user])]
        expected = beliefs.item_mean[item, 0] + (knowledge.vectors(item) * mean).sum(1)
        stars = (scale.centre + scale.unit * expected).clamp(scale.lowest, scale.highest)
        squares += float((stars - torch.from_numpy(rows.value)).square().sum())
    truth, dataset = read_truth(folder), allocation.dataset
    users, items = dataset.user_ids.to_numpy() - 1, dataset.catalogue.frame["item_id"].to_numpy() - 1
    best, variances = 0.0, 0.0
    for rows in _blocks(held):
        bayes, variance = truth.prediction(users[rows.user], items[rows.item])
        best += float(np.square(bayes - rows.value).sum())
        variances += float(variance.sum())
    found, bayes_found, floor = (float(np.sqrt(each / len(held))) for each in (squares, best, variances))
    return {"rmse": found, "bayes_rmse": bayes_found, "noise_floor": floor, "over_floor": found / floor - 1}


def _blocks(ratings: Ratings) -> list[Ratings]:
    return [ratings.between(begin, min(begin + (1 << 18), len(ratings))) for begin in range(0, len(ratings), 1 << 18)]


def main() -> None:
    """Train, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk-rows", type=int, default=1 << 18)
    parser.add_argument("--judge", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    seconds: list[float] = []

    def on_round(finished: FinishedRound) -> None:
        seconds.append(finished.seconds)

    with one_torch_thread():
        allocation, method = load(options.folder, options.threads, options.chunk_rows, options.device)
        before = measure_rates(options.threads)
        cpu = time.process_time()
        trained = run_rounds(method, allocation.nodes, options.rounds, on_round)
        cpu = time.process_time() - cpu
        after = measure_rates(options.threads)
        ratings, users = len(allocation.split.train), len(allocation.nodes)
        slopes = method.design(trained.shared).slopes.shape[1]
        flops, moved = floor_of_a_round(ratings, users, RANK, slopes)
        told = {
            "ratings": ratings,
            "users": users,
            "items": len(method.content),
            "device": options.device,
            "opening_seconds": seconds[0] - float(np.median(seconds[1:])),
            "round_seconds": float(np.median(seconds[1:])),
            "cpu_seconds": cpu,
            "floor_seconds": max(before.seconds(flops, moved), after.seconds(flops, moved)),
            "matrix_gflops": before.flops / 1e9,
            "copy_gbytes": before.bytes / 1e9,
            "peak_gbytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
            "digest": trained.shared.digest(),
        }
        if options.judge:
            told |= judge(allocation, method, trained, options.folder)
            told |= know_films(allocation, options.folder)
        if options.profile:
            with torch.profiler.profile() as profiled:
                replace(method, threads=1).contribute_pooled(trained.shared, allocation.nodes, trained.private)
            print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=16))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
