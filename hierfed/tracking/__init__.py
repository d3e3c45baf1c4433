"""Observers that write a run's rounds and figures for other tools: `hierfed run --track NAME`.

Their packages are loaded when a tracker is made. Nothing is sent anywhere but where the user points it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError, SettingsError
from hierfed.lookup import nearest
from hierfed.observer import Observer

if TYPE_CHECKING:
    from hierfed.settings import Settings


def _csv(settings: Settings, folder: Path) -> Observer:
    from hierfed.tracking.rounds_csv import RoundsCsv  # noqa: PLC0415 - each tracker loads its own packages

    return RoundsCsv(folder / "rounds.csv")


def _tensorboard(settings: Settings, folder: Path) -> Observer:
    from hierfed.tracking.tensorboard import TensorBoardTracker  # noqa: PLC0415

    return TensorBoardTracker(folder / "tensorboard")


def _mlflow(settings: Settings, folder: Path) -> Observer:
    # MLflow would else send notes on its use to its makers.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from hierfed.tracking.mlflow import MLflowTracker  # noqa: PLC0415

    return MLflowTracker(settings, folder)


TRACKERS: Mapping[str, Callable[[Settings, Path], Observer]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}
"""Every tracker: makes an observer from the settings and the folder of a run."""


def tracker(name: str, settings: Settings, folder: Path) -> Observer:
    """The tracker of this name for a run into this folder.

    Raises SettingsError for an unknown name, HierfedError where the tracker's package is not installed.
    """
    if name not in TRACKERS:
        raise SettingsError(f"no tracker '{name}'{nearest(name, TRACKERS)}: there are {', '.join(TRACKERS)}")
    try:
        return TRACKERS[name](settings, folder)
    except ImportError as error:
        raise HierfedError(f"--track {name} needs a package: pip install 'hierfed[tracking]' ({error})") from error
