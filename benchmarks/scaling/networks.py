"""Rounds of federated averaging over many small nodes: one size, in this process.

    python benchmarks/scaling/networks.py NODES [--rounds 3] [--threads 2] [--chunk-rows 262144] [--device cpu]

Every node holds 96 ratings of a thousand items with 26 features, and trains an MLP 26-64-32-1 on them for two epochs of
three batches (Adam) in each round. Prints one line of JSON: seconds and CPU seconds a node-step, their floor, the most
memory, and the model's digest. The floor counts a multiplication and an addition as two, three products of each layer's
weights with a batch (forward, and back to weights and inputs), at the rate of large float32 products; and, at the copy
rate, that Adam reads and writes parameters, gradient and moments once.
"""

import argparse
import itertools
import json
import resource
import time

import numpy as np
import torch
from floor import measure_rates

from hierfed.data.features import Features
from hierfed.data.federation import Nodes, make_nodes
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.build import make_averaging
from hierfed.models.scale import RatingScale
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

ROWS, ITEMS, INPUTS, HIDDEN = 96, 1000, 26, (64, 32)
EPOCHS, BATCH, LEARNING_RATE = 2, 32, 0.003
STEPS = EPOCHS * ROWS // BATCH
NUMBER = 4  # bytes


def make_federation(nodes: int) -> Nodes:
    """Equal nodes; ratings are a function of the item plus noise."""
    rng = np.random.default_rng(0)
    node = np.repeat(np.arange(nodes, dtype=np.int32), ROWS)
    item = rng.integers(0, ITEMS, len(node), dtype=np.int32)
    value = (3.5 + np.sin(item) + rng.normal(0, 0.5, len(node))).astype(np.float32)
    rows = Ratings(node, item, value)
    return make_nodes(rows, node, rows.between(0, 0), node[:0], nodes)


def make_method(threads: int, chunk_rows: int, device: str = "cpu") -> FederatedAveraging:
    """The paper's network on random features."""
    features = np.random.default_rng(1).standard_normal((ITEMS, INPUTS), np.float32)
    chosen = {
        "hidden": list(HIDDEN),
        "dropout": 0.0,
        "output_bias": "train_mean",
        "local_epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "threads": threads,
        "chunk_rows": chunk_rows,
        "device": device,
    }
    names = tuple(f"feature {number}" for number in range(INPUTS))
    return make_averaging(load_settings("network", chosen), Features(features, names, ()), RatingScale())


def floor_of_a_step() -> tuple[float, float]:
    """Floating point operations, and bytes, of one node's step."""
    widths = (INPUTS, *HIDDEN, 1)
    weights = sum(above * below for above, below in itertools.pairwise(widths))
    flops = 2 * BATCH * (3 * weights - widths[0] * widths[1])  # nothing asks for the inputs' gradients
    parameters = weights + sum(widths[1:])
    return flops, NUMBER * 7 * parameters


def main() -> None:
    """Train, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk-rows", type=int, default=1 << 18)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    method = make_method(options.threads, options.chunk_rows, options.device)
    nodes = make_federation(options.nodes)
    seconds: list[float] = []

    def on_round(finished: FinishedRound) -> None:
        seconds.append(finished.seconds)

    with one_torch_thread():
        rates = measure_rates(options.threads, torch.float32)
        run_rounds(method, nodes[: min(options.nodes, 256)], 1)
        began, cpu = time.perf_counter(), time.process_time()
        trained = run_rounds(method, nodes, options.rounds, on_round)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    steps = options.nodes * options.rounds * STEPS
    told = {
        "nodes": options.nodes,
        "threads": options.threads,
        "chunk_rows": options.chunk_rows,
        "device": options.device,
        "microseconds": 1e6 * wall / steps,
        "cpu_microseconds": 1e6 * cpu / steps,
        "floor_microseconds": 1e6 * rates.seconds(*floor_of_a_step()),
        "round_seconds": float(np.median(seconds)),
        "peak_gbytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "digest": trained.shared.digest(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
