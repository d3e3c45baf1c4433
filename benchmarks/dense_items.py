"""Few items that most users have rated, as in data on jokes: personal models by rank, and what the selection chooses.

    python benchmarks/dense_items.py [--users 3000] [--items 100] [--tastes 20] [--seed 0]

Ratings from -10 to 10 of half of all pairs: an item's and a user's level, so many tastes, and noise of 3.5. Prints the
RMSE on test rows (protocol `warm`, 8 nodes) for ranks 8 to 32 without selection, and with it.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed.experiment import run_experiment
from hierfed.settings import load_settings


def ratings(users: int, items: int, tastes: int, seed: int) -> pl.DataFrame:
    """The table of ratings."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1.2, items) + rng.normal(0, 2, (users, 1))
    factors = rng.normal(0, 1, (items, tastes)) * np.linspace(1.2, 0.5, tastes)
    value = level + rng.normal(0, 1, (users, tastes)) @ factors.T + rng.normal(0, 3.5, (users, items))
    user, item = np.nonzero(rng.random((users, items)) < 0.5)
    return pl.DataFrame({"user": user, "item": item, "rating": value[user, item].round(2).clip(-10, 10)})


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("users", 3000), ("items", 100), ("tastes", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "ratings.csv"
        ratings(options.users, options.items, options.tastes, options.seed).write_csv(source)
        forms: list[dict[str, Any]] = [{"rank": rank, "select": False} for rank in (8, 16, 32)]
        for changes in (*forms, {"ratings_per_item": 10**6}, {}):
            asked = {"data.source": str(source), "protocol": "warm", "rank_items": False, **changes}
            found = run_experiment(load_settings("hierarchical", asked))
            rank = found.tuned.factors.rank
            print(f"{changes or 'selected'}: rank {rank}, RMSE {found.result.users.rmse_after:.4f}", flush=True)


if __name__ == "__main__":
    main()
