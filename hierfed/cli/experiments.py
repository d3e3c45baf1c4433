"""Commands that run experiments: run and compare."""

from __future__ import annotations

import gc
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hierfed.cli.interruption import INTERRUPTED, Interruption, end_on_sigterm
from hierfed.cli.options import (
    DataOptions,
    Json,
    Out,
    Preset,
    Quiet,
    Refit,
    Seed,
    Sets,
    Track,
    settings_of,
    taking,
)
from hierfed.cli.output import print_content, print_json, print_path, say
from hierfed.errors import HierfedError, SettingsError, reason_of
from hierfed.settings import Settings, preset_names

if TYPE_CHECKING:
    from hierfed.ledger.replay import Replay
    from hierfed.observer import Observer
    from hierfed.results import Result, Summary


_NO_OPTIONS = DataOptions()


@taking(DataOptions)
def run(
    preset: Preset = "hierarchical",
    tables: DataOptions = _NO_OPTIONS,
    seed: Seed = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run this many seeds.", show_default=False)] = None,
    set_: Sets = None,
    refit: Refit = None,
    track: Track = None,
    replay: Annotated[
        Path | None, typer.Option(help="The ledger of an earlier run: end at the first round that is not its own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder; the preset's name if not given.")] = None,
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run an experiment: train a global model, personalise it, and report what that gained.

    Ctrl-C ends the training with its round; what there is then is judged, saved
    and reported, no further seed is begun, and the exit code is 130. A second
    Ctrl-C stops at once.
    """
    settings = settings_of(preset, tables, seed=seed, sets=set_, refit=refit)
    if replay is not None and seeds is not None:
        raise SettingsError("--replay is the ledger of one seed: leave --seeds out")
    end_on_sigterm()
    interruption = Interruption()
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.runs import folder as runs  # noqa: PLC0415 - torch takes seconds to load, and other commands do not need it
    from hierfed.runs import reports  # noqa: PLC0415

    silent = quiet or as_json
    with runs.claimed_folder(out, name or Path(preset).stem) as folder:
        if seeds is None:
            result = _run_one(settings, folder, track or [], silent, interruption, replay)
            found, page, stopped = folder / "result.json", folder / "report.html", result.ended_early
            if not silent:
                print_content(terminal.result_tables(result))
        else:
            every = range(settings.seed, settings.seed + seeds)
            results = _run_seeds(settings, folder, every, track or [], silent, interruption)
            whole, stopped = _whole(results), _tell_stop(results, seeds)
            found, page = folder / "summary.json", runs.seed_folder(folder, settings.seed) / "report.html"
            if whole:
                page, summary = folder / "report.html", reports.save_summary(whole, folder)
                if not silent:
                    print_content(terminal.summary_table(summary))
        if as_json:
            if found.is_file():
                print_json(found.read_text(encoding="utf-8"))
        elif not quiet:
            print_path("The report", page)
        if stopped:
            raise SystemExit(INTERRUPTED)


@taking(DataOptions)
def compare(
    presets: Annotated[
        list[str], typer.Argument(help="Two or more presets or settings files; or folders of runs that exist.")
    ],
    tables: DataOptions = _NO_OPTIONS,
    seed: Seed = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to run of each.")] = 3,
    set_: Sets = None,
    refit: Refit = None,
    track: Track = None,
    name: Annotated[str, typer.Option(help="The folder of the comparison.")] = "compare",
    out: Out = Path("runs"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run presets on the same seeds and show the paired differences.

    Folders of runs that exist are compared as they are: on the seeds that all of
    them have, if their rows are the same.
    Ctrl-C ends the training with its round and saves that run; no further one
    is begun, nothing is compared, and the exit code is 130. A second Ctrl-C
    stops at once.
    """
    labels = {Path(preset).name if _exists(preset) else Path(preset).stem: preset for preset in presets}
    if any(map(_exists, presets)):
        _compare_runs(presets, labels, name, out, quiet, as_json)
        return
    if len(labels) < max(2, len(presets)):
        raise SettingsError(
            f"compare needs two presets or more, of different names; there are: {', '.join(preset_names())}"
        )
    every = {label: settings_of(preset, tables, seed=seed, sets=set_, refit=refit) for label, preset in labels.items()}
    end_on_sigterm()
    interruption = Interruption()
    from hierfed.runs import folder as runs  # noqa: PLC0415
    from hierfed.runs import reports  # noqa: PLC0415

    silent = quiet or as_json
    with runs.claimed_folder(out, name) as folder:
        first = next(iter(every.values())).seed
        same = range(first, first + seeds)
        results = {
            label: _run_seeds(settings, folder / label, same, track or [], silent, interruption)
            for label, settings in every.items()
        }
        summaries = {
            label: reports.save_summary(_whole(each), folder / label) for label, each in results.items() if _whole(each)
        }
        if _tell_stop([result for each in results.values() for result in each], seeds * len(every)):
            if not silent:
                print_path("What there is", folder)
            raise SystemExit(INTERRUPTED)
        _tell_comparison(folder, results, summaries, quiet, as_json)


def _exists(preset: str) -> bool:
    """True for the folder of a run; a preset's name stays a preset."""
    from hierfed.runs.listing import is_run  # noqa: PLC0415

    return preset not in preset_names() and is_run(Path(preset))


def _compare_runs(
    presets: Sequence[str], labels: Mapping[str, str], name: str, out: Path, quiet: bool, as_json: bool
) -> None:
    from hierfed.evaluation.summary import summarise  # noqa: PLC0415
    from hierfed.runs import folder as runs  # noqa: PLC0415
    from hierfed.runs.listing import results_to_compare  # noqa: PLC0415

    new = [preset for preset in presets if not _exists(preset)]
    if new or len(labels) < max(2, len(presets)):
        problem = f"'{new[0]}' is no run that exists" if new else "it needs two or more, of different names"
        raise SettingsError(f"runs are compared with runs, and presets with presets: {problem}")
    results = results_to_compare({label: Path(folder) for label, folder in labels.items()})
    summaries = {label: summarise(label, each) for label, each in results.items()}
    with runs.claimed_folder(out, name) as folder:
        _tell_comparison(folder, results, summaries, quiet, as_json)


def _tell_comparison(
    folder: Path,
    results: Mapping[str, Sequence[Result]],
    summaries: Mapping[str, Summary],
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the comparison into its folder, and show it."""
    from hierfed.evaluation.summary import compare as compare_results  # noqa: PLC0415
    from hierfed.report import terminal  # noqa: PLC0415
    from hierfed.report.page import write_comparison_page  # noqa: PLC0415

    differences = compare_results(results)
    found = {
        "summaries": {label: summary.model_dump(mode="json") for label, summary in summaries.items()},
        "differences": [difference.model_dump(mode="json") for difference in differences],
    }
    (folder / "comparison.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    page = write_comparison_page(folder.name, summaries, differences, folder)
    if as_json:
        print_json((folder / "comparison.json").read_text(encoding="utf-8"))
    elif not quiet:
        print_content(terminal.comparison_table(summaries, differences))
        print_path("The reports", page)


def _run_seeds(
    settings: Settings,
    folder: Path,
    seeds: Iterable[int],
    track: Sequence[str],
    silent: bool,
    interruption: Interruption,
) -> list[Result]:
    """Run these seeds, a folder each; none is begun after a Ctrl-C."""
    from hierfed.runs import folder as runs  # noqa: PLC0415

    results: list[Result] = []
    for seed in seeds:
        if interruption.asked:
            break
        own = settings.model_copy(update={"seed": seed})
        results.append(_run_one(own, runs.seed_folder(folder, seed), track, silent, interruption))
    return results


def _run_one(
    settings: Settings,
    folder: Path,
    track: Sequence[str],
    silent: bool,
    interruption: Interruption,
    replay: Path | None = None,
) -> Result:
    from hierfed.experiment import run_experiment  # noqa: PLC0415
    from hierfed.report.progress import watching  # noqa: PLC0415
    from hierfed.runs import folder as runs  # noqa: PLC0415
    from hierfed.runs import reports  # noqa: PLC0415
    from hierfed.tracking import tracker  # noqa: PLC0415

    trackers: list[Observer] = [tracker(name, settings, folder) for name in track]
    replayed = None if replay is None else _replay_of(replay)
    trackers += [] if replayed is None else [replayed]
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    with watching(settings, f"{settings.preset}, seed {settings.seed}", silent) as watcher:
        # Who presses Ctrl-C wants an answer, however quiet the run is.
        answer = say if silent else watcher.note
        try:
            with interruption.heard(answer):
                outcome = run_experiment(settings, observers=[runs.RoundLog(folder), interruption, watcher, *trackers])
                watcher.stage("report")
                if replayed is not None:
                    watcher.note(f"{replayed.compared} rounds are those of {replay}, to the bit")
                return reports.save_run(outcome, folder)
        except (KeyboardInterrupt, SystemExit, HierfedError):
            if (rounds := runs.keep_rounds_alone(folder)) is not None:
                say(f"the rounds that were finished: {rounds}")
            raise


def _replay_of(path: Path) -> Replay:
    """The comparison with a ledger; raises HierfedError for a file that is none."""
    if importlib.util.find_spec("cryptography") is None:
        raise HierfedError("--replay: ledgers need the package cryptography: pip install 'hierfed[privacy]'")
    from hierfed.ledger.replay import Replay  # noqa: PLC0415

    try:
        if not path.stat().st_size:
            raise HierfedError(f"--replay {path}: is empty; give the ledger.jsonl of the run to repeat")
        return Replay(path)
    except OSError as error:
        raise HierfedError(f"--replay {path}: cannot be read: {reason_of(error)}") from error


def _whole(results: Sequence[Result]) -> list[Result]:
    """The runs that trained to the end: a mean over seeds with different numbers of rounds would say nothing."""
    return [result for result in results if not result.ended_early]


def _tell_stop(results: Sequence[Result], asked: int) -> bool:
    """True where fewer runs trained to the end than were asked for; a line on standard error then says so."""
    done = len(_whole(results))
    if done < asked:
        early = [
            f"{each.preset}, seed {each.seed}, ended early and is in no mean" for each in results if each.ended_early
        ]
        say("; ".join([f"stopped: {done} of {asked} runs trained to the end", *early]))
    return done < asked
