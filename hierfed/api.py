"""The library's front door: the same runs as on the command line, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from hierfed.data.reading.raw_tables import IN_MEMORY, frame_of, is_table
from hierfed.experiment import run_experiment
from hierfed.methods.kind import ModuleMaker
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.results import Result
from hierfed.runs.folder import save_run
from hierfed.settings import load_settings


class Run:
    """A finished run. `result` holds its figures (see hierfed.results.Result), `outcome` its models."""

    def __init__(self, outcome: Outcome):
        self.outcome = outcome

    @property
    def result(self) -> Result:
        """The findings of the run."""
        return self.outcome.result

    def _repr_html_(self) -> str:
        """The metrics, as notebooks show them."""
        return self.result._repr_html_()

    def save(self, folder: str | Path) -> Path:
        """Write settings, models, figures and report into a folder; gives the path of `report.html`."""
        save_run(self.outcome, Path(folder))
        return Path(folder) / "report.html"


def run(
    preset: str = "hierarchical",
    *,
    data: Any = None,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    **settings: Any,
) -> Run:
    """Run a preset (or a settings file) and give what it found; nothing is written.

    data: the source of the ratings, as for `--data`, or a path; or the ratings themselves, as a DataFrame of polars or
    pandas, or an Arrow table.
    module: a function from the number of features to a torch.nn.Module, which is trained in place of the settings'
    network, on ratings stretched onto 0.5 to 5.
    observers: watch the run, and may end its training.
    settings: overrides by name, such as rounds=3.
    Raises hierfed.errors.HierfedError for settings and data that cannot be used.

    >>> import hierfed
    >>> run = hierfed.run("paper", rounds=2)
    >>> run.result.data.ratings
    100004
    """
    overrides = {key: str(value) if isinstance(value, PurePath) else value for key, value in settings.items()}
    if data is not None:
        overrides["data.source"] = IN_MEMORY if is_table(data) else str(data)
    table = frame_of(data) if is_table(data) else None
    return Run(run_experiment(load_settings(preset, overrides), table=table, module=module, observers=observers))
