"""A finished run goes on in place: rounds from its shared model over the ratings as they are now, or from the start.

The opening rounds are made anew over these ratings, or that of counts alone (Method.reopened), the shared model's
beliefs are taken over (Method.resumed), and further rounds follow. Everything that the run's folder holds of its models
and users is then replaced.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from hierfed.atomic import write_atomically
from hierfed.data.catalogue import Catalogue
from hierfed.engines.going_on import OPENING, Settled, resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method, Trained
from hierfed.federated.private import PersonalModel
from hierfed.federated.stage import RATING
from hierfed.ledger.entries import FILE as LEDGER
from hierfed.ledger.files import file_digests
from hierfed.ledger.record import LedgerRecord, ledger_of
from hierfed.methods import Case, prepare, stages_from_rating
from hierfed.models.threads import one_torch_thread
from hierfed.observer import SILENT, Observer, Observers
from hierfed.results import UpdateRecord, write_record
from hierfed.runs.folder import read_results
from hierfed.runs.kept_rows import KeptRows
from hierfed.runs.models import MODEL, RANKING, KeptModel, save_model, save_ranking
from hierfed.runs.private_files import INDEX, PRIVATE, save_private
from hierfed.serving.served import RESULT, Served
from hierfed.settings import load_settings

UNFINISHED, FORMER = ".unfinished-update", ".former"
# Says that the shared model still holds ratings that are no more, so that the next rounds open anew.
HOLDS_WITHDRAWN = ".holds-withdrawn"
# The facts of a model's header that a run tells, beside those that follow from the model.
TOLD = ("features", "data", "licence")


@dataclass(frozen=True)
class Renewal:
    """The way in which a run goes on.

    level: `rounds` or `all`, for the record. rounds: at most so many; None for as many as the run's settings say, from
    the start. tolerance: of Settled; 0 for none. forgotten: how many users left. keeps: see GoingOn.
    """

    level: str
    rounds: int | None
    tolerance: float = 0.0
    forgotten: int = 0
    keeps: bool = False


def refuse_others(folder: Path, served: Served) -> None:
    """Raise HierfedError for what cannot go on: a node's state, other methods, and rounds of other shapes."""
    federation = served.settings.federation
    if served.folder != folder:
        raise HierfedError(
            f"{folder}: a node's own state goes on with its federation: `hierfed node` takes part in one, and "
            "`hierfed forget --state` forgets its users"
        )
    if not served.method.resumes:
        raise HierfedError(
            f"{folder}: a run of method '{served.settings.method}' cannot go on: train it anew, or take preset "
            "hierarchical, whose runs can"
        )
    if federation.topology == "gossip" or federation.mode == "async" or federation.participation < 1:
        raise HierfedError(f"{folder}: only rounds that all nodes take part in can go on: train the run anew")


def renew(
    folder: Path, rows: KeptRows, catalogue: Catalogue, how: Renewal, observer: Observer = SILENT
) -> UpdateRecord:
    """Train a run's models over these rows, and replace the run's models and users' files by the new ones.

    catalogue: the run's, perhaps with further items after its own.
    """
    served, began = Served(folder), time.process_time()
    refuse_others(folder, served)
    if not len(rows.rows):
        raise HierfedError(f"{folder}: no rating is left: delete the run")
    nodes, limits = rows.nodes(), _limits(served, rows)
    kept = (folder / LEDGER).is_file()
    asked = load_settings(folder / "settings.toml") if kept else served.settings
    ledger = ledger_of(asked, catalogue, nodes, lambda done: None) if kept else None
    if ledger is not None:
        ledger.continued(served.shared.digest(), how.forgotten)
    with one_torch_thread():
        shape = round_of(served.settings).with_everyone()
        case = after_earlier_stages(Case(served.settings, catalogue, limits), nodes, shape)
        method = prepare(case).method
        watchers = [observer, *([] if ledger is None else [ledger])]
        if how.tolerance:
            watchers.append(Settled(method, len(catalogue), how.tolerance))
        watching = Observers(watchers)

        def train(*given: object, **named: object) -> Trained:
            return run_rounds(*given, how=shape, **named)  # type: ignore[arg-type,misc]

        first, *later = stages_from_rating(case)
        models: dict[str, SharedModel] = dict(case.models)
        if how.rounds is None:
            trained = train(method, nodes, first.rounds, observer=watching)
        else:
            models[OPENING], trained = resumed_training(
                method, nodes, served.shared, how.rounds, train=train, observer=watching, keeps=how.keeps
            )
        models[RATING] = trained.shared
        seconds = time.process_time() - began
        for stage in later:
            model = train(stage.build(models), nodes, stage.rounds, stage=stage.name, observer=watching)
            models[stage.name] = model.shared
        personal = method.personalise(trained.shared, nodes, trained.private)
        record = UpdateRecord(
            level=how.level,
            rounds=trained.shared.round - (0 if how.rounds is None else served.shared.round),
            users=len(rows.user_ids),
            items=len(catalogue),
            ratings=len(rows.rows),
            new_items=len(catalogue) - len(served.catalogue),
            forgotten=how.forgotten,
            before=served.shared.digest(),
            seconds=seconds,
        )
        users = {f"{node.name}": model for node, model in zip(nodes, personal, strict=True)}
        _write(
            folder,
            served,
            KeptModel(served.settings, limits, catalogue, trained.shared, {}),
            method,
            models,
            users,
            rows,
            record,
            ledger,
        )
    if not how.keeps:
        (folder / HOLDS_WITHDRAWN).unlink(missing_ok=True)
    return record


def _limits(served: Served, rows: KeptRows) -> tuple[float, float]:
    """The scale, widened by ratings beyond it where the settings fix none."""
    low, high = (float(each) for each in (rows.rows["rating"].min(), rows.rows["rating"].max()))  # type: ignore[arg-type]
    return served.settings.data.limits((min(low, served.limits[0]), max(high, served.limits[1])))


def _write(
    folder: Path,
    served: Served,
    kept: KeptModel,
    method: Method,
    models: dict[str, SharedModel],
    users: dict[str, PersonalModel],
    rows: KeptRows,
    record: UpdateRecord,
    ledger: LedgerRecord | None,
) -> None:
    """Write everything beside the run first, then put it in the place of what the run holds."""
    place = folder / UNFINISHED
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    digest = kept.shared.digest()
    header = {"digest": digest} | {name: served.header[name] for name in TOLD if name in served.header}
    ranking = {name: model for name, model in models.items() if name not in (RATING, OPENING)}
    save_ranking(place, ranking)
    save_private(place, served.settings.method, users, rows.user_ids, rows.seen_by_user())
    written = KeptModel(kept.settings, kept.limits, kept.catalogue, kept.shared, header)
    save_model(place, written, method, (RANKING, INDEX))
    result = read_results(folder)[0]
    result = result.model_copy(update={"digest": digest, "updates": [*result.updates, record]})
    write_record(result, place / RESULT)
    if ledger is not None:
        shutil.copyfile(folder / "settings.toml", place / "settings.toml")
        files = file_digests(place, ("settings.toml", RESULT, MODEL, RANKING))
        write_atomically(place / LEDGER, ledger.sealed(models, files))
    (folder / PRIVATE).rename(folder / FORMER)
    finish_move(folder)


def finish_move(folder: Path) -> None:
    """Put what was written beside the run in its place; a move that was cut off is finished by the next call.

    The former users' files are there from the moment when all is written until the move is over.
    """
    place, former = folder / UNFINISHED, folder / FORMER
    if not former.is_dir():
        return
    if place.is_dir():
        if (place / PRIVATE).is_dir():
            (place / PRIVATE).rename(folder / PRIVATE)
        for path in sorted(place.iterdir()):
            path.replace(folder / path.name)
        place.rmdir()
    shutil.rmtree(former)
