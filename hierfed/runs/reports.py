"""The reports of a run's folder: pages and figures, which are written with the run or again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from hierfed.atomic import write_atomically
from hierfed.errors import storing
from hierfed.evaluation.metrics import with_metrics
from hierfed.evaluation.samples import sample_lists
from hierfed.evaluation.summary import summarise
from hierfed.ledger.entries import FILE as LEDGER
from hierfed.ledger.files import file_digests
from hierfed.outcome import Outcome
from hierfed.report.figures import save_figures, save_for_papers
from hierfed.report.page import write_page, write_summary_page
from hierfed.results import Result, Summary, write_record
from hierfed.runs.folder import ROUNDS, make_folder, read_results, save_models, seed_folder
from hierfed.runs.models import MODEL, RANKING

PAPERS = "figures-for-papers"


def save_run(outcome: Outcome, folder: Path) -> Result:
    """Write settings, model, private state, figures, report, result and ledger into the run's folder.

    Gives the result with its name and the seconds that the report took filled in. Raises StorageError where the disk is
    full, or may not be written to.
    """
    with storing(folder):
        return _save_run(outcome, folder)


def _save_run(outcome: Outcome, folder: Path) -> Result:
    began = time.perf_counter()
    make_folder(folder)
    samples = sample_lists(
        outcome.tuned, outcome.dataset.catalogue, outcome.method, outcome.models, outcome.dataset.ratings
    )
    result = outcome.result.model_copy(update={"name": folder.name, "samples": samples})
    (folder / "settings.toml").write_text(outcome.settings.to_toml(), encoding="utf-8")
    lines = "".join(record.model_dump_json() + "\n" for record in result.rounds)
    (folder / ROUNDS).write_text(lines, encoding="utf-8")
    save_models(outcome, folder)
    write_report(result, folder)
    spent = time.perf_counter() - began
    seconds = result.seconds.model_copy(update={"report": spent, "total": result.seconds.total + spent})
    result = with_metrics(result.model_copy(update={"seconds": seconds}))
    result = write_record(result, folder / "result.json")
    if outcome.ledger is not None:
        files = file_digests(folder, ("settings.toml", "result.json", MODEL, RANKING))
        write_atomically(folder / LEDGER, outcome.ledger.sealed(outcome.models, files))
    return result


def write_report(result: Result, folder: Path) -> Path:
    """Write `figures/` and `report.html` of one run; gives the path of the page."""
    save_figures(result, folder / "figures")
    return write_page(result, folder)


def save_summary(results: Sequence[Result], folder: Path) -> Summary:
    """Write `summary.json` and the report of several seeds into the folder that holds their own folders."""
    summary = write_record(summarise(folder.name, results), folder / "summary.json")
    write_summary_page(summary, list(results), folder)
    return summary


def rewrite_report(folder: Path) -> Result | Summary:
    """Write figures and pages of a run folder again, from its `result.json` or its seeds'; gives what was found."""
    results = read_results(folder)
    if not (folder / "summary.json").is_file():
        with storing(folder):
            write_report(results[0], folder)
        return results[0]
    for result in results:
        write_report(result, seed_folder(folder, result.seed))
    return save_summary(results, folder)


def write_for_papers(folder: Path, kind: str = "", titled: bool = True) -> list[Path]:
    """Write a run's figures for a paper into `figures-for-papers` of its folder, or of each seed's; gives their paths.

    kind: `png`, `svg` or `pdf`; `pdf` if empty.
    """
    several = (folder / "summary.json").is_file()
    found = []
    for result in read_results(folder):
        place = (seed_folder(folder, result.seed) if several else folder) / PAPERS
        with storing(place):
            found += save_for_papers(result, place, kind or "pdf", titled)
    return found
