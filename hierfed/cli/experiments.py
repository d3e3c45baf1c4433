"""Commands that run experiments: run and compare."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from hierfed.cli.options import (
    Columns,
    Data,
    Join,
    Json,
    Out,
    Preset,
    ProtocolOption,
    Query,
    Quiet,
    Seed,
    Sets,
    Test,
    settings_of,
)
from hierfed.cli.output import print_content, print_path
from hierfed.errors import SettingsError
from hierfed.settings import Settings, preset_names

if TYPE_CHECKING:
    from hierfed.companion.process import Companion
    from hierfed.results import Result


def run(
    preset: Preset = "hierarchical",
    data: Data = None,
    query: Query = None,
    join: Join = None,
    protocol: ProtocolOption = None,
    test: Test = None,
    column: Columns = None,
    seed: Seed = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run this many seeds.", show_default=False)] = None,
    set_: Sets = None,
    name: Annotated[str | None, typer.Option(help="The run's folder; the preset's name if not given.")] = None,
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run an experiment: train a global model, personalise it, and report what that gained."""
    settings = settings_of(
        preset, data=data, query=query, join=join, protocol=protocol, test=test, columns=column, seed=seed, sets=set_
    )
    companion = _companion([settings])
    from hierfed import runs  # noqa: PLC0415 - torch takes seconds to load, and other commands do not need it
    from hierfed.report import terminal  # noqa: PLC0415

    silent = quiet or as_json
    folder = runs.free_folder(out, name or Path(preset).stem)
    if seeds is None:
        results = [_run_one(settings, folder, silent, companion)]
        if not silent:
            print_content(terminal.result_tables(results[0]))
    else:
        results = []
        for each in range(settings.seed, settings.seed + seeds):
            results.append(_run_seed(settings, folder, each, silent, companion))
        summary = runs.save_summary(results, folder)
        if not silent:
            print_content(terminal.summary_table(summary))
    if as_json:
        name = "result.json" if seeds is None else "summary.json"
        sys.stdout.write((folder / name).read_text(encoding="utf-8"))
    elif not quiet:
        print_path("The report", folder / "report.html")


def compare(
    presets: Annotated[list[str], typer.Argument(help="Two or more presets or settings files.")],
    data: Data = None,
    query: Query = None,
    join: Join = None,
    protocol: ProtocolOption = None,
    seed: Seed = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run of each.")] = 3,
    set_: Sets = None,
    name: Annotated[str, typer.Option(help="The folder of the comparison.")] = "compare",
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run presets on the same seeds and show the paired differences."""
    labels = {Path(preset).stem: preset for preset in presets}
    if len(labels) < max(2, len(presets)):
        raise SettingsError(
            f"compare needs two presets or more, of different names; there are: {', '.join(preset_names())}"
        )
    every = {
        label: settings_of(
            preset, data=data, query=query, join=join, protocol=protocol, test=None, columns=None, seed=seed, sets=set_
        )
        for label, preset in labels.items()
    }
    companion = _companion(every.values())
    from hierfed import runs  # noqa: PLC0415
    from hierfed.evaluation.summary import compare as compare_results  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415

    silent = quiet or as_json
    folder = runs.free_folder(out, name)
    first = next(iter(every.values())).seed
    results: dict[str, list[Result]] = {
        label: [_run_seed(settings, folder / label, each, silent, companion) for each in range(first, first + seeds)]
        for label, settings in every.items()
    }
    summaries = {label: runs.save_summary(each, folder / label) for label, each in results.items()}
    differences = compare_results(results)
    found = {
        "summaries": {label: summary.model_dump(mode="json") for label, summary in summaries.items()},
        "differences": [difference.model_dump(mode="json") for difference in differences],
    }
    (folder / "comparison.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write((folder / "comparison.json").read_text(encoding="utf-8"))
    elif not quiet:
        print_content(terminal.comparison_table(summaries, differences))
        print_path("The reports", folder)


def _companion(settings: Iterable[Settings]) -> Companion | None:
    """A helper until the command ends, where there are networks to train without a federation."""
    from hierfed.companion.process import Companion  # noqa: PLC0415

    if all(each.method != "averaging" for each in settings):
        return None
    return click.get_current_context().with_resource(Companion())


def _run_seed(settings: Settings, folder: Path, seed: int, silent: bool, companion: Companion | None) -> Result:
    from hierfed import runs  # noqa: PLC0415

    return _run_one(settings.model_copy(update={"seed": seed}), runs.seed_folder(folder, seed), silent, companion)


def _run_one(settings: Settings, folder: Path, silent: bool, companion: Companion | None) -> Result:
    from hierfed import runs  # noqa: PLC0415
    from hierfed.evaluation.baselines import begin_here  # noqa: PLC0415
    from hierfed.experiment import run_experiment  # noqa: PLC0415
    from hierfed.report.progress import watching  # noqa: PLC0415

    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    with watching(settings, f"{settings.preset}, seed {settings.seed}", silent) as watcher:
        log = runs.RoundLog(folder)
        begin = begin_here if companion is None else partial(companion.begin, settings)
        outcome = run_experiment(
            settings, observers=[log, watcher], progress=watcher.on_download, begin=begin, tell=watcher.tell
        )
        watcher.on_stage("report")
        return runs.save_run(outcome, folder)
