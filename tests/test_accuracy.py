"""The accuracy benchmark: its splits are those of a run, its anchors never see what they are asked for."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from hierfed.data.ratings import Ratings
from hierfed.experiment import divide, load_dataset
from hierfed.settings import load_settings

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PROTOCOLS = ("warm", "temporal", "cold")


@pytest.fixture(scope="module")
def task() -> ModuleType:
    """The module that gives every anchor its task; other benchmarks have a module of that name too."""
    spec = importlib.util.spec_from_file_location("anchors_task", BENCHMARKS / "anchors" / "task.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ratings of 40 users that depend on user and item, each pair once."""
    rng = np.random.default_rng(0)
    user, item = (places.ravel() for places in np.meshgrid(np.arange(40), np.arange(60), indexing="ij"))
    kept = rng.permutation(len(user))[:900]
    level = 3 + rng.normal(0, 0.6, 40)[user] + rng.normal(0, 0.6, 60)[item] + rng.normal(0, 0.4, len(user))
    rating = np.clip(np.round(2 * level) / 2, 0.5, 5)
    columns = {"user": user, "item": item, "rating": rating, "time": rng.permutation(len(user))}
    path = tmp_path_factory.mktemp("accuracy") / "ratings.csv"
    pl.DataFrame({name: values[kept] for name, values in columns.items()}).write_csv(path)
    return str(path)


def pairs(rows: Ratings) -> set[tuple[int, int]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))


def accuracy(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "accuracy.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_rows_are_those_of_a_run(task: ModuleType, table: str, protocol: str) -> None:
    asked, wanted = task.make_task(task.load_ratings(table), protocol, 3)
    settings = load_settings("network", {"data.source": table, "protocol": protocol, "seed": 3})
    dataset = load_dataset(settings)
    split = divide(dataset, settings)
    assert pairs(asked.asked) == pairs(dataset.ratings.take(split.personal_test))
    assert pairs(asked.federated) == pairs(dataset.ratings.take(split.train))
    assert wanted.tolist() == dataset.ratings.value[split.personal_test].tolist()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_anchors_learn_from_all_rows_but_those_asked_for(task: ModuleType, table: str, protocol: str) -> None:
    dataset = task.load_ratings(table)
    asked, _ = task.make_task(dataset, protocol, 0)
    assert np.isnan(asked.asked.value).all()
    assert pairs(asked.train).isdisjoint(pairs(asked.asked))
    assert pairs(asked.train) | pairs(asked.asked) == pairs(dataset.ratings)
    known = set(asked.federated.user.tolist())
    assert known.isdisjoint(asked.asked.user.tolist()) == (protocol == "cold")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tuning_never_sees_test_rows(task: ModuleType, table: str, protocol: str) -> None:
    dataset = task.load_ratings(table)
    final, _ = task.make_task(dataset, protocol, 0)
    tuning, _ = task.make_task(dataset, protocol, 0, validate=True)
    assert pairs(tuning.asked) <= pairs(final.train)
    assert pairs(tuning.train) == pairs(final.train) - pairs(tuning.asked)
    assert pairs(tuning.federated) == pairs(final.federated) - pairs(tuning.asked)


def test_results_are_kept_and_not_made_twice(table: str, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    options = ("--data", table, "--protocols", "warm,temporal", "--seeds", "2", "--out", str(out))
    first = accuracy(*options, "--anchors", "biases")
    assert "biases, warm, seed 1" in first.stdout
    both = accuracy(*options, "--anchors", "biases,FedAvg biased MF,gradient boosting")
    assert "biases, warm, seed" not in both.stdout
    runs = json.loads(out.read_text())["runs"]
    for name in ("biases", "FedAvg biased MF", "gradient boosting"):
        assert set(runs[name]["warm"]) == {"0", "1"}
        assert set(runs[name]["temporal"]) == {"0"}, "the split by time is one"
        # The ratings' own deviation is about one star; what depends on neither user nor item is 0.4.
        assert 0.35 < runs[name]["warm"]["0"]["rmse"] < 0.75


def test_an_anchor_that_cannot_run_is_named(table: str) -> None:
    done = accuracy("--data", table, "--protocols", "warm", "--anchors", "biases", "--python", "false")
    assert "biases, warm, seed 0 did not run: failed without a word" in done.stdout
