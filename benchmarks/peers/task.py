"""The task every peer trains on, and the clock they are all timed by.

Eight nodes hold 1,200 rows of 26 inputs each. Each round, every node trains an MLP 26-64-32-1 on its own rows for five
shuffled epochs (Adam, batches of 32, mean squared error) and the results are averaged by rows: 8 x 5 x 38 steps a
round, 15,200 in ten rounds. Only numpy and the standard library are used here, so that no peer pays for another.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable

import numpy as np

NODES, ROWS, INPUTS = 8, 1200, 26
HIDDEN = (64, 32)
EPOCHS, BATCH, LEARNING_RATE = 5, 32, 0.003
STEPS = EPOCHS * -(-ROWS // BATCH)  # local steps a node takes in one round: 190
NOISE = 0.5  # so that no honest model gets a mean squared error far below 0.25

Predict = Callable[[np.ndarray], np.ndarray]
Train = Callable[[int], Predict]


@functools.cache
def make_task(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make the features [nodes, rows, inputs] and targets [nodes, rows]: a random linear function plus noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((NODES, ROWS, INPUTS), dtype=np.float32)
    coefficients = rng.standard_normal(INPUTS, dtype=np.float32) / np.float32(np.sqrt(INPUTS))
    noise = rng.standard_normal((NODES, ROWS), dtype=np.float32)
    return features, features @ coefficients + np.float32(NOISE) * noise


def cpu_seconds() -> float:
    """CPU seconds, user and system, of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def run_peer(peer: str, version: str, train: Train, cpu_clock: Callable[[], float] = cpu_seconds) -> None:
    """Time `train(rounds)` twice in this process and print the outcome.

    `train` returns a function that predicts with the final global model. The first run pays for every compilation and
    start-up; the second finds the process warm. Imports and the making of the data are outside both.
    """
    parser = argparse.ArgumentParser(description=f"Time the benchmark task with {peer}.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    features, targets = make_task()

    cpu_before, started = cpu_clock(), time.perf_counter()
    predict = train(options.rounds)
    first, cpu = time.perf_counter() - started, cpu_clock() - cpu_before
    started = time.perf_counter()
    train(options.rounds)
    again = time.perf_counter() - started

    error = np.asarray(predict(features.reshape(-1, INPUTS))).reshape(-1) - targets.reshape(-1)
    outcome = {
        "peer": peer,
        "version": version,
        "seconds_end_to_end": round(first, 3),
        "seconds_again": round(again, 3),
        "cpu_seconds": round(cpu, 3),
        "final_loss": round(float(np.mean(np.square(error, dtype=np.float64))), 5),
    }
    print(json.dumps(outcome) if options.json else "\n".join(f"{key}: {value}" for key, value in outcome.items()))
