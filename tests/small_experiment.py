"""A small data set, and experiments on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hierfed.data.division import divide
from hierfed.data.splits import Split
from hierfed.experiment import run_experiment
from hierfed.outcome import Outcome
from hierfed.settings import load_settings

USERS, ITEMS, PER_USER = 30, 40, 14


GENRES = ("Action", "Comedy", "Drama", "Horror")


SMALL: dict[str, Any] = {
    "rounds": 2,
    "nodes": 3,
    "personal_nodes": 3,
    "hidden": [6, 4],
    "local_epochs": 1,
    "batch_size": 16,
    "tuning_epochs": 2,
    "tuning_batch_size": 16,
    "sample": 1.0,
}


def small_ratings() -> pl.DataFrame:
    """420 ratings of 30 users, who differ in taste, on 40 films, which differ in quality."""
    rng = np.random.default_rng(11)
    quality, taste = rng.normal(0, 0.7, ITEMS), rng.normal(0, 0.5, USERS)
    rows = []
    for user in range(USERS):
        for item in rng.choice(ITEMS, PER_USER, replace=False).tolist():
            stars = 3.5 + quality[item] + taste[user] + rng.normal(0, 0.4)
            rating = float(np.clip(np.round(2 * stars) / 2, 0.5, 5))
            rows.append((user + 1, item + 1, rating, 10**9 + int(rng.integers(10**6))))
    return pl.DataFrame(rows, schema=["userId", "movieId", "rating", "timestamp"], orient="row")


def experiment(source: str, preset: str = "network", module: Any = None, **changes: Any) -> Outcome:
    settings = load_settings(preset, {**SMALL, "data.source": source, **changes})
    return run_experiment(settings, module=module)


def split_of(outcome: Outcome) -> Split:
    return divide(outcome.dataset, outcome.settings)


def write_folder(place: Path) -> str:
    """The ratings and films as GroupLens publishes them: genres are the only features."""
    small_ratings().write_csv(place / "ratings.csv")
    films = [(item + 1, f"Film {item} ({1950 + item})", GENRES[item % 4]) for item in range(ITEMS)]
    films[5] = (6, "Film 5 (1955)", "Action|Drama")
    pl.DataFrame(films, schema=["movieId", "title", "genres"], orient="row").write_csv(place / "movies.csv")
    return str(place)


def rmse(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def stretched(outcome: Outcome, learned: np.ndarray) -> np.ndarray:
    """The model learned from ratings of 0.5 to 5, on the scale of those that occur."""
    value = outcome.dataset.ratings.value.astype(np.float64)
    return value.min() + (learned - 0.5) * (value.max() - value.min()) / 4.5
