"""Fit a model to ratings in memory or in a file, and get what answers for its users."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Unpack

from hierfed.evaluation.metrics import with_metrics
from hierfed.experiment import run_experiment
from hierfed.results import write_record
from hierfed.runs.folder import save_models
from hierfed.serving.recommender import Recommender
from hierfed.serving.tables import as_frame
from hierfed.settings import load_settings
from hierfed.settings_by_name import SettingsByName


def fit(data: Any, preset: str = "hierarchical", **settings: Unpack[SettingsByName]) -> Recommender:
    """Fit a preset to ratings and give a model that recommends, predicts and explains.

    data: a frame of polars or pandas, or a mapping of columns, with user, item, rating and, if there is one, time; or
    a source as for `--data`, such as a folder or a table's path.
    settings: overrides by name, such as rank=8 or rounds=20. Rows that the preset holds out judge the training, and
    then the users' own models learn from them too.
    The model's files lie in a private temporary folder, and go with the object. `hierfed run` keeps them.
    Raises HierfedError for settings and data that cannot be used.

    >>> import hierfed
    >>> model = hierfed.fit({"user": users, "item": items, "rating": stars}, rounds=5)
    >>> model.recommend("12").items[0].rank
    1
    """
    keep = tempfile.TemporaryDirectory(prefix="hierfed-")
    try:
        source = str(data)
        if not isinstance(data, (str, Path)):
            source = str(Path(keep.name) / "ratings.parquet")
            as_frame(data).write_parquet(source)
        folder = Path(keep.name) / "run"
        folder.mkdir()
        outcome = run_experiment(load_settings(preset, {**settings, "data.source": source}))
        save_models(outcome, folder)
        # As of every run, it is written last: without it the run is only half there.
        write_record(with_metrics(outcome.result), folder / "result.json")
        return Recommender(folder, keep)
    except BaseException:
        keep.cleanup()
        raise
