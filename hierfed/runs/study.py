"""Studies: presets times variants of settings times seeds, as one table that survives a kill."""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from hierfed.errors import SettingsError
from hierfed.evaluation.summary import compare, summarise
from hierfed.experiment import run_experiment
from hierfed.results import PairedDifference, Result, Summary, write_record
from hierfed.runs.folder import make_folder, read_results
from hierfed.section import Count, Section
from hierfed.settings import Settings, load_settings


class Study(Section):
    """A study's file.

    presets: presets or settings files. seeds: how many of each, from 0.
    settings: of all runs, by key. variants: by name, what each changes beside; the usual one changes nothing.
    """

    presets: tuple[str, ...] = Field(min_length=1)
    seeds: Count = 2
    settings: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = Field(default={"as it is": {}}, min_length=1)


def read_study(path: Path) -> dict[str, dict[str, list[Settings]]]:
    """The settings of every run, by variant and preset; each run's settings are checked before the first begins.

    Raises SettingsError, in one line, for a file that is no study, and for settings that a preset cannot have.
    """
    try:
        study = Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: not a study: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        keys = ", ".join(Study.model_fields)
        raise SettingsError(f"{path}: {where}: {first['msg']}; a study has {keys}") from error
    labels = [Path(preset).stem for preset in study.presets]
    if len(set(labels)) < len(labels):
        raise SettingsError(f"{path}: presets: two of them have one name: rename a file")

    def settings_of(preset: str, variant: str, seed: int) -> Settings:
        try:
            return load_settings(preset, {**study.settings, **study.variants[variant], "seed": seed})
        except SettingsError as error:
            raise SettingsError(f"{path}: preset '{preset}', variant '{variant}': {error}") from error

    return {
        variant: {
            label: [settings_of(preset, variant, seed) for seed in range(study.seeds)]
            for label, preset in zip(labels, study.presets, strict=True)
        }
        for variant in study.variants
    }


def run_study(
    study: Mapping[str, Mapping[str, Sequence[Settings]]],
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
    run: Callable[[Settings], Result] = lambda settings: run_experiment(settings).result,
) -> dict[str, dict[str, list[Result]]]:
    """The results of every run, by variant and preset.

    A finished run's result lies in the folder under the digest of its settings, and is not run again.

    tell: takes a line after each new run, with the time that is left if the others take as long.
    run: gives the result of settings.
    """
    every = [settings for presets in study.values() for seeds in presets.values() for settings in seeds]
    missing = [settings for settings in every if not (_place(folder, settings) / "result.json").is_file()]
    if len(missing) < len(every):
        tell(f"{len(every) - len(missing)} of {len(every)} runs are there already")
    began = time.perf_counter()
    for done, settings in enumerate(missing, 1):
        place = _place(folder, settings)
        make_folder(place)
        write_record(run(settings), place / "result.json")
        left = (time.perf_counter() - began) / done * (len(missing) - done)
        tell(f"{len(every) - len(missing) + done} of {len(every)} runs, about {left / 60:.0f} min left")
    return {
        variant: {
            label: [read_results(_place(folder, settings))[0] for settings in seeds] for label, seeds in presets.items()
        }
        for variant, presets in study.items()
    }


def summaries_of(
    results: Mapping[str, Mapping[str, Sequence[Result]]],
) -> tuple[dict[str, Summary], list[PairedDifference]]:
    """The table of a study: a summary for each variant and preset; and the presets' differences within variants."""
    summaries: dict[str, Summary] = {}
    differences: list[PairedDifference] = []
    for variant, presets in results.items():
        named = {f"{variant}, {label}": found for label, found in presets.items()}
        summaries |= {name: summarise(name, found) for name, found in named.items()}
        differences += compare(named)
    return summaries, differences


def study_json(summaries: Mapping[str, Summary], differences: Sequence[PairedDifference]) -> str:
    """The table of a study as JSON."""
    found = {
        "summaries": {label: summary.model_dump(mode="json") for label, summary in summaries.items()},
        "differences": [difference.model_dump(mode="json") for difference in differences],
    }
    return json.dumps(found, indent=1) + "\n"


def _place(folder: Path, settings: Settings) -> Path:
    return folder / "runs" / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
