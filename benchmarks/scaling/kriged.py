"""Users with many ratings: what it costs to krige fewer of them: `python benchmarks/scaling/kriged.py SOURCE`.

Protocol `warm`, no choice of hyperparameters. Prints the RMSE on the test rows of users with more than 1,024 ratings of
their own, and CPU seconds of these predictions, if at most so many of each user's ratings are kriged.
"""

import sys
import time

import numpy as np

from hierfed.data.division import allocate, load_dataset
from hierfed.engines.in_process import run_rounds
from hierfed.methods import Case, prepare
from hierfed.models import kriging
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings

FEWEST = 1024


def main() -> None:
    """Print a line for each number of kriged ratings."""
    settings = load_settings("hierarchical", {"source": sys.argv[1], "protocol": "warm", "select": False})
    dataset = load_dataset(settings)
    nodes = allocate(dataset, settings).nodes
    method = prepare(Case(settings, dataset.catalogue, dataset.ratings.limits)).method
    trained = run_rounds(method, nodes, settings.training.rounds)
    asked = []
    for model, node in zip(method.personalise(trained.shared, nodes, trained.private), nodes, strict=True):
        own = np.bincount(node.train.user, minlength=1 + int(node.test.user.max(initial=0)))
        rows = node.test.take(own[node.test.user] > FEWEST)
        if len(rows):
            asked.append((model, rows.untimed))
    for most in (4096, FEWEST, FEWEST // 2):
        kriging.MOST_KRIGED = most
        began = time.process_time()
        squares = np.concatenate([(model.predict(rows).numpy() - rows.value) ** 2 for model, rows in asked])
        spent = time.process_time() - began
        print(f"{most:,} kriged: RMSE {np.sqrt(squares.mean()):.4f} on {len(squares):,} rows, {spent:.2f} CPU s")


if __name__ == "__main__":
    with one_torch_thread():
        main()
