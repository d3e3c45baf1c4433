"""The accuracy benchmark: its splits are those of a run, its anchors never see what they are asked for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from hierfed.data.division import divide, load_dataset
from hierfed.data.ratings import Ratings
from hierfed.settings import load_settings

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PROTOCOLS = ("warm", "temporal", "cold")


def imported(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def task() -> ModuleType:
    """The module that gives every anchor its task; other benchmarks have a module of that name too."""
    return imported(BENCHMARKS / "anchors" / "task.py", "anchors_task")


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    return imported(BENCHMARKS / "accuracy.py", "benchmarks_accuracy")


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


def test_results_are_kept_and_not_made_twice(
    accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str, int]] = []

    def run_model(model: Any, python: str, data: str, protocol: str, seed: int) -> dict[str, Any] | str:
        if model.name == "kNN":
            return "ModuleNotFoundError: No module named 'surprise'"
        asked.append((model.name, protocol, seed))
        rmse = {"biases": 0.9, "SVD": 0.85, "hierarchical": 0.8}[model.name] + 0.01 * seed
        ranking = {"ndcg@10": 0.3, "recall@20": 0.2, "hr@10": 0.8} if model.name == "hierarchical" else {}
        return {"version": "1", "rmse": rmse, "cpu_seconds": 1.0, "sent_per_node": 12, **ranking}

    monkeypatch.setattr(accuracy, "run_model", run_model)
    options = ["accuracy.py", "--protocols", "warm,temporal", "--seeds", "2", "--out", str(tmp_path / "results.json")]
    monkeypatch.setattr(sys, "argv", [*options, "--anchors", "biases,SVD"])
    accuracy.main()
    every = [("warm", 0), ("warm", 1), ("temporal", 0)]  # the split by time is one
    assert asked == [(name, *place) for name in ("biases", "SVD") for place in every]
    asked.clear()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*options, "--anchors", "biases,SVD,kNN,hierarchical"])
    accuracy.main()
    assert asked == [("hierarchical", *place) for place in every]
    printed = capsys.readouterr().out
    assert "kNN, warm, seed 0 did not run: ModuleNotFoundError" in printed
    rows = {line.split()[1]: line for line in printed.splitlines() if "0.8050" in line or "0.9050" in line}
    assert "best anchor: SVD" in printed
    assert "-0.0500 ± 0.0000" in rows["hierarchical"]
    assert "2 of 2" in rows["hierarchical"]
    assert "+0.0500 ± 0.0000" in rows["biases"]
    assert "0 of 2" in rows["biases"]


def test_results_of_other_data_are_not_mixed(accuracy: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    accuracy.Results(file, "first").add("biases", "warm", 0, {"rmse": 0.9})
    assert accuracy.Results(file, "first").get("biases", "warm") == {0: {"rmse": 0.9}}
    with pytest.raises(SystemExit, match="holds results on first"):
        accuracy.Results(file, "second")


def test_an_anchor_runs_and_its_failure_is_told(accuracy: ModuleType, table: str) -> None:
    models = {model.name: model for model in accuracy.MODELS}
    found = accuracy.run_model(models["FedAvg biased MF"], sys.executable, table, "warm", 0)
    # The ratings' own deviation is about one star; what depends on neither user nor item is 0.4.
    assert 0.35 < found["rmse"] < 0.75
    assert found["sent_per_node"] > 0
    told = accuracy.run_model(models["biases"], sys.executable, "nowhere", "warm", 0)
    assert "no such data: 'nowhere'" in told
