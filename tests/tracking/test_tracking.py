"""Trackers: each tool's own reader finds every round of a run and its metrics."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from hierfed.errors import HierfedError
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.results import Result
from hierfed.settings import load_settings
from hierfed.tracking import TRACKERS, tracker


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A run that every tracker followed, and its folder."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    place = tmp_path_factory.mktemp("tracked")
    write_world(place / "world", users=40, items=60, ratings=1_200, seed=1)
    changes: dict[str, Any] = {"data.source": str(place / "world"), "rounds": 3, "personal_nodes": 2, "nodes": 2}
    settings = load_settings("network", changes)
    folder = place / "runs" / "mine"
    observers = [tracker(name, settings, folder) for name in TRACKERS]
    return run_experiment(settings, observers=observers).result, folder


def test_the_table_has_a_line_a_round(tracked):
    result, folder = tracked
    with (folder / "rounds.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["round"]) for row in rows] == [1, 2, 3]
    assert [float(row["global_rmse"]) for row in rows] == [record.global_rmse for record in result.rounds]
    assert [float(row["train_loss"]) for row in rows] == [record.train_loss[-1] for record in result.rounds]


def test_tensorboard_reads_the_curves(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, folder = tracked
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    points = events.Scalars("round/global_rmse")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == pytest.approx([record.global_rmse for record in result.rounds])
    (last,) = events.Scalars("run/rmse_after")
    assert last.value == pytest.approx(result.users.rmse_after)


def test_mlflow_reads_settings_rounds_and_metrics(tracked):
    from mlflow.tracking import MlflowClient

    result, folder = tracked
    client = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("hierfed").experiment_id])
    history = client.get_metric_history(run.info.run_id, "round_global_rmse")
    assert [(each.step, each.value) for each in history] == [(each.round, each.global_rmse) for each in result.rounds]
    assert run.data.metrics["rmse_after"] == result.users.rmse_after
    assert run.data.params["training.rounds"] == "3"
    assert run.info.status == "FINISHED"
    # Where the data lie is the owner's.
    assert not any(str(folder.parent.parent) in value for value in run.data.params.values())


def test_an_unknown_tracker_is_an_error(tmp_path):
    with pytest.raises(HierfedError, match="no tracker 'tensorbord', did you mean 'tensorboard'"):
        tracker("tensorbord", load_settings("network"), tmp_path)
