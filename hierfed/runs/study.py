"""Studies: the runs of a plan, as one table that survives a kill."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from hierfed.evaluation.summary import compare, summarise
from hierfed.experiment import run_experiment
from hierfed.results import PairedDifference, Result, Summary, write_record
from hierfed.runs.folder import make_folder, read_results
from hierfed.runs.study_file import Cell, Plan
from hierfed.settings import Settings

Results = Mapping[str, Mapping[str, Sequence[Result]]]
"""The results of each seed, by variant and method."""


def run_settings(settings: Settings) -> Result:
    """The result of settings."""
    return run_experiment(settings).result


def run_study(
    plan: Plan,
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
    run: Callable[[Settings], Result] = run_settings,
    processes: int = 1,
) -> dict[str, dict[str, list[Result]]]:
    """The results of every run: first the trials, which choose hyperparameters, then the seeds.

    A finished run's result lies in the folder under the digest of its settings, and is not run again.

    tell: takes a line after each new run, with the time that is left if the others take as long.
    run: gives the result of settings; with several processes, a function of a module.
    """
    cells = [cell for methods in plan.cells.values() for cell in methods.values()]
    trials = list({_place(folder, each): each for cell in cells for each in cell.trials}.values())
    seeds = sum(len(cell.runs[0]) for cell in cells)
    _finish(folder, trials, tell, run, processes, later=seeds)
    chosen = {
        variant: {label: cell.runs[_choice(folder, cell)] for label, cell in methods.items()}
        for variant, methods in plan.cells.items()
    }
    every = [settings for methods in chosen.values() for runs in methods.values() for settings in runs]
    _finish(folder, every, tell, run, processes, earlier=len(trials))
    return {
        variant: {label: [_read(folder, settings) for settings in runs] for label, runs in methods.items()}
        for variant, methods in chosen.items()
    }


def _finish(
    folder: Path,
    asked: Sequence[Settings],
    tell: Callable[[str], None],
    run: Callable[[Settings], Result],
    processes: int,
    earlier: int = 0,
    later: int = 0,
) -> None:
    """Run what is not in the folder. earlier, later: the numbers of runs before and after these."""
    missing = [settings for settings in asked if not (_place(folder, settings) / "result.json").is_file()]
    total, there = earlier + len(asked) + later, earlier + len(asked) - len(missing)
    if len(missing) < len(asked):
        tell(f"{there} of {total} runs are there already")
    began = time.perf_counter()
    for done, _ in enumerate(_each(folder, missing, run, processes), 1):
        left = (time.perf_counter() - began) / done * (len(missing) - done + later)
        tell(f"{there + done} of {total} runs, about {left / 60:.0f} min left")


def _each(
    folder: Path, missing: Sequence[Settings], run: Callable[[Settings], Result], processes: int
) -> Iterator[None]:
    """Run each of the settings, in some order."""
    if processes == 1 or len(missing) < 2:
        for settings in missing:
            _run_to(_place(folder, settings), settings, run)
            yield
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_end_with_parent)
    try:
        waiting = [pool.submit(_run_to, _place(folder, settings), settings, run) for settings in missing]
        for finished in as_completed(waiting):
            finished.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when that ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_to(place: Path, settings: Settings, run: Callable[[Settings], Result]) -> None:
    make_folder(place)
    write_record(run(settings), place / "result.json")


def _choice(folder: Path, cell: Cell) -> int:
    """The place of the choice with the least error on validation rows; the first where there is one."""
    errors = [_read(folder, settings).users.rmse_after for settings in cell.trials]
    return errors.index(min(errors)) if errors else 0


def summaries_of(results: Results) -> tuple[dict[str, Summary], list[PairedDifference]]:
    """The table of a study: a summary for each variant and method; and the methods' differences within variants."""
    summaries: dict[str, Summary] = {}
    differences: list[PairedDifference] = []
    for variant, methods in results.items():
        named = {f"{variant}, {label}": found for label, found in methods.items()}
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


def _read(folder: Path, settings: Settings) -> Result:
    return read_results(_place(folder, settings))[0]


def _place(folder: Path, settings: Settings) -> Path:
    return folder / "runs" / hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
