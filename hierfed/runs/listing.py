"""Runs that exist: their figures side by side, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierfed.errors import HierfedError, SettingsError, reason_of
from hierfed.evaluation.metrics import METRICS
from hierfed.evaluation.summary import spread
from hierfed.results import Result
from hierfed.runs.folder import read_results

# A seed is listed beside the settings, and a preset's own words on itself are no setting that acts.
NO_DIFFERENCE = ("seed", "preset", "description")


@dataclass(frozen=True)
class ListedRun:
    """A run's folder and its headline figures.

    seeds: those that it ran. data: name of its source. figures: means over seeds, by key of METRICS.
    differs: its values of the settings in which the listed runs differ, by key.
    problem: why it cannot be read; all else is then empty.
    """

    folder: Path
    preset: str = ""
    data: str = ""
    seeds: tuple[int, ...] = ()
    figures: Mapping[str, float] | None = None
    differs: Mapping[str, Any] | None = None
    problem: str = ""


def is_run(folder: Path) -> bool:
    """True for the folder of a run, of one or of several seeds."""
    return (folder / "result.json").is_file() or (folder / "summary.json").is_file()


def listed_runs(out: Path) -> list[ListedRun]:
    """The runs in the folders below `out`, by name.

    Raises HierfedError where `out` cannot be read.
    """
    try:
        folders = sorted(path for path in out.iterdir() if path.is_dir() and is_run(path))
    except OSError as error:
        raise HierfedError(f"{out}: cannot read runs there: {reason_of(error)}; choose the place with --out") from error
    found: dict[Path, list[Result]] = {}
    problems: dict[Path, str] = {}
    for folder in folders:
        try:
            found[folder] = read_results(folder)
        except HierfedError as error:
            problems[folder] = str(error)
    settings = {folder: _flat(results[0].settings) for folder, results in found.items()}
    keys = {key for each in settings.values() for key in each}
    different = sorted(key for key in keys if len({str(each.get(key)) for each in settings.values()}) > 1)
    return [
        ListedRun(folder, problem=problems[folder])
        if folder in problems
        else _listed(folder, found[folder], {key: settings[folder].get(key) for key in different})
        for folder in folders
    ]


def results_to_compare(folders: Mapping[str, Path]) -> dict[str, list[Result]]:
    """The results of runs that exist, on the seeds that all of them have, ascending.

    Raises SettingsError where they were not run on the same rows, or share no seed.
    """
    results = {label: read_results(folder) for label, folder in folders.items()}
    rows = {
        label: (each[0].data.source, each[0].data.protocol, each[0].data.ratings) for label, each in results.items()
    }
    if len(set(rows.values())) > 1:
        told = "; ".join(f"{label}: {', '.join(map(str, each))}" for label, each in rows.items())
        raise SettingsError(f"these runs cannot be compared, since their rows are not the same ({told})")
    common = set.intersection(*({result.seed for result in each} for each in results.values()))
    if not common:
        raise SettingsError("these runs cannot be compared: no seed is in all of them")
    return {
        label: sorted((result for result in each if result.seed in common), key=lambda result: result.seed)
        for label, each in results.items()
    }


def _listed(folder: Path, results: Sequence[Result], differs: Mapping[str, Any]) -> ListedRun:
    figures = {
        key: spread([metric.of(result) for result in results]).mean for key, metric in METRICS.items() if metric.column
    }
    first = results[0]
    return ListedRun(folder, first.preset, first.data.source, tuple(each.seed for each in results), figures, differs)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in settings.items():
        if isinstance(values, Mapping):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        elif section not in NO_DIFFERENCE:
            flat[section] = values
    return flat
