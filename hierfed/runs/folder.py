"""The folder of a run, whole at every moment, from which the run can be repeated."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hierfed.atomic import write_atomically
from hierfed.errors import HierfedError, SettingsError, reason_of, storing
from hierfed.evaluation.metrics import with_metrics
from hierfed.evaluation.samples import sample_lists
from hierfed.evaluation.summary import summarise
from hierfed.federated.stage import RATING
from hierfed.ledger.entries import FILE as LEDGER
from hierfed.ledger.files import file_digests
from hierfed.lookup import nearest
from hierfed.methods import METHODS
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.plain_text import printable
from hierfed.report.figures import save_figures, save_for_papers
from hierfed.report.page import write_page, write_summary_page
from hierfed.results import Result, RoundRecord, Summary, write_record
from hierfed.runs.models import MODEL, RANKING, KeptModel, save_model, save_ranking
from hierfed.runs.private_files import INDEX, save_private
from hierfed.runs.refit import besides_ratings, held_out, models_for_use
from hierfed.sealed import check_json
from hierfed.settings import Settings

ROUNDS = "rounds.jsonl"
# Times that a folder is made again while others take it away.
TRIES = 100
Kind = TypeVar("Kind", Result, Summary)


class RoundLog(Observer):
    """Makes the run's folder as the first round ends, and appends each round to its `rounds.jsonl`."""

    def __init__(self, folder: Path):
        self.path = folder / ROUNDS

    def round(self, record: RoundRecord) -> None:
        """Append one line."""
        make_folder(self.path.parent)
        with storing(self.path), self.path.open("a", encoding="utf-8") as lines:
            lines.write(record.model_dump_json() + "\n")


@contextmanager
def claimed_folder(out: Path, name: str) -> Iterator[Path]:
    """A new folder `out/name`, or `out/name-2` and so on where that exists, which no other run gets.

    If the block fails or is stopped, folders without any file are deleted again.
    Raises SettingsError for a name that would lie elsewhere or has control characters, HierfedError where the folder
    cannot be made.
    """
    if not name.isprintable():
        raise SettingsError(f"'{name}' is no name for a folder: leave out control characters")
    if name in ("", ".", "..") or Path(name).name != name:
        raise SettingsError(f"'{name}' is no name for a folder: leave out slashes, and choose the place with --out")
    made = [place for place in (out, *out.parents) if not place.exists()]
    folder = _claim(out, name)
    try:
        yield folder
    except BaseException:
        for place in [*(Path(below) for below, _, _ in os.walk(folder, topdown=False)), *made]:
            # What holds a file, or another run's folder, stays.
            with suppress(OSError):
                place.rmdir()
        raise


def _claim(out: Path, name: str) -> Path:
    """Make the first of these folders that does not exist; runs that begin together get different ones."""
    folder, number = out / name, 1
    while True:
        make_folder(out)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = out / f"{name}-{number}"
        except FileNotFoundError:
            # Another run has failed, and has taken away the empty `out`.
            continue
        except OSError as error:
            raise _cannot_make(folder, error) from error
        else:
            return folder


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; raises HierfedError where that is not possible."""
    for left in reversed(range(TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError) as error:
            # Another run has failed, and has taken away an empty folder above, or this one after it was seen to exist.
            if not left or folder.is_file():
                raise _cannot_make(folder, error) from error
        except OSError as error:
            raise _cannot_make(folder, error) from error
        else:
            return


def _cannot_make(folder: Path, error: OSError) -> HierfedError:
    return HierfedError(f"cannot make the folder {folder}: {reason_of(error)}; choose another with --out")


def keep_rounds_alone(folder: Path) -> Path | None:
    """Delete what a failed run has written, but for the log of its finished rounds; gives the log's path, if any."""
    rounds = folder / ROUNDS
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path != rounds:
            path.unlink()
    return rounds if rounds.is_file() else None


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


def seed_folder(folder: Path, seed: int) -> Path:
    """The folder of one of several seeds of a run."""
    return folder / f"seed-{seed}"


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


PAPERS = "figures-for-papers"


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


def read_results(folder: Path) -> list[Result]:
    """The result of a run's folder, or those of its seeds; raises HierfedError where it cannot be read."""
    if not (folder / "summary.json").is_file():
        return [_read(folder / "result.json", Result)]
    seeds = _read(folder / "summary.json", Summary).seeds
    return [_read(seed_folder(folder, seed) / "result.json", Result) for seed in seeds]


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            check_json(found, path, "put it back from a copy, or run again")
        return kind.model_validate(_with_words(found, kind, path))
    except OSError as error:
        raise HierfedError(f"{path}: cannot read a run there: {reason_of(error)}; runs are under runs/") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise HierfedError(f"{path}: not a result of hierfed: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise HierfedError(f"{path}: not a result of this version of hierfed: {where}: {first['msg']}") from error


def _with_words(found: Any, kind: type[Kind], path: Path) -> Any:
    """The file's content; one written by a version without words of methods gets them.

    Raises HierfedError for an unknown method.
    """
    if not isinstance(found, dict) or "words" in found:
        return found
    # A summary held the method's name itself, a result holds it among its settings; the first ones held none.
    rest = {key: value for key, value in found.items() if key != "method"} if kind is Summary else found
    told, usual = found if kind is Summary else found.get("settings"), Settings.model_fields["method"].default
    name = str(told.get("method", usual) if isinstance(told, dict) else usual)
    if name not in METHODS:
        raise HierfedError(
            f"{path}: no method '{printable(name)}'{nearest(name, METHODS)}: the file was written by another "
            "version of hierfed"
        )
    return rest | {"words": METHODS[name].words()}


def save_models(outcome: Outcome, folder: Path) -> None:
    """Write the models alone, and the users' own files: all that serving needs."""
    header = {"digest": outcome.result.digest, "features": json.dumps(outcome.result.data.features)}
    provenance = outcome.dataset.provenance
    header |= {"data": provenance.name, "licence": provenance.licence}
    limits = outcome.settings.data.limits(outcome.dataset.ratings.limits)
    kept = KeptModel(outcome.tuned, limits, outcome.dataset.catalogue, outcome.shared, header)
    save_ranking(folder, {name: model for name, model in outcome.models.items() if name != RATING})
    held = held_out(outcome.dataset, outcome.split)
    models = models_for_use(outcome, held)
    # What a user has rated besides is for lists alone.
    seen = besides_ratings(outcome, held)
    save_private(folder, outcome.settings.method, models, outcome.dataset.user_ids, seen, outcome.dataset.seen_alone)
    save_model(folder, kept, outcome.method, (RANKING, INDEX))
