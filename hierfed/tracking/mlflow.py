"""Runs and rounds in MLflow: `mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow.tracking import MlflowClient

from hierfed.observer import Observer
from hierfed.results import Result, RoundRecord
from hierfed.settings import PRIVATE_SETTINGS, Settings
from hierfed.tracking.numbers import of_result, of_round

EXPERIMENT = "hierfed"
LONGEST_VALUE = 500


class MLflowTracker(Observer):
    """Makes a run in the experiment `hierfed`, with its settings as parameters and its rounds as metrics.

    The store is that of the variable MLFLOW_TRACKING_URI; without it, an SQLite file `mlflow.db` beside the run's
    folder.
    Settings that say where data lie are not written.
    """

    def __init__(self, settings: Settings, folder: Path):
        folder.parent.mkdir(parents=True, exist_ok=True)
        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent.resolve() / 'mlflow.db'}"
        self._client = MlflowClient(store)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        number = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        self._run = self._client.create_run(number, run_name=f"{folder.name}, seed {settings.seed}").info.run_id
        for section, values in settings.model_dump(mode="json", exclude=PRIVATE_SETTINGS).items():
            each = values if isinstance(values, dict) else {"": values}
            for key, value in each.items():
                self._client.log_param(self._run, f"{section}.{key}".rstrip("."), str(value)[:LONGEST_VALUE])

    def round(self, record: RoundRecord) -> None:
        """Log the round's numbers; see Observer."""
        for name, value in of_round(record).items():
            self._client.log_metric(self._run, f"round_{name}", value, step=record.round)

    def result(self, result: Result) -> None:
        """Log the run's metrics and end it; see Observer."""
        for name, value in of_result(result).items():
            self._client.log_metric(self._run, name, value)
        self._client.set_terminated(self._run)
