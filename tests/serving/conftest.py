"""A saved run of few users, which learn further and are forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hierfed.experiment import run_experiment
from hierfed.runs import reports
from hierfed.settings import load_settings
from tests.serving.test_served import SMALL

USERS, ITEMS = 20, 15


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", float(rng.integers(1, 11)) / 2, int(1_400_000_000 + rng.integers(0, 10**7)))
        for user in range(USERS)
        for item in rng.choice(ITEMS, 9, replace=False).tolist()
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def made(table, tmp_path_factory) -> Path:
    """A saved run, whose users have learned from all their ratings."""
    place = tmp_path_factory.mktemp("update")
    table.write_csv(place / "ratings.csv")
    small = {
        **SMALL,
        "select": False,
        "rounds": 3,
        "personal_nodes": 3,
        "data.source": str(place / "ratings.csv"),
        "protocol": "warm",
    }
    outcome = run_experiment(load_settings("hierarchical", small))
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(reports, "write_report", lambda result, folder: None)
        reports.save_run(outcome, place / "run")
    return place


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"
