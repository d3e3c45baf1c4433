"""The folder of a run, whole at every moment, from which the run can be repeated."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hierfed.errors import HierfedError, SettingsError, reason_of, storing
from hierfed.federated.stage import RATING
from hierfed.lookup import nearest
from hierfed.methods import METHODS
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.plain_text import printable
from hierfed.results import Result, RoundRecord, Summary
from hierfed.runs.models import RANKING, KeptModel, save_model, save_ranking
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


def seed_folder(folder: Path, seed: int) -> Path:
    """The folder of one of several seeds of a run."""
    return folder / f"seed-{seed}"


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
