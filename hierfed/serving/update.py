"""A finished run learns from ratings as they are now: users alone, by further rounds, or all of it anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.data.settings import DataSettings
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.method import Relearner
from hierfed.models.strangeness import FALSE_ALARMS, first_alarm
from hierfed.models.threads import one_torch_thread
from hierfed.observer import SILENT, Observer
from hierfed.plain_text import printable
from hierfed.runs.kept_rows import PAIR, KeptRows, kept_rows, ratings_of
from hierfed.runs.private_files import has_several, list_files, read_node, read_private, write_node, write_user
from hierfed.serving.changes import data_settings, grown, rows_of
from hierfed.serving.levels import LEVELS, USUAL_ROUNDS, Level
from hierfed.serving.renewing import HOLDS_WITHDRAWN, Renewal, finish_move, refuse_others, renew
from hierfed.serving.served import Served

# Of users who share no node, so many learn at once: as many as memory holds with ease.
ALONE_AT_ONCE = 1000


@dataclass(frozen=True)
class Updated:
    """The outcome of an update.

    fitted: users whose ratings have changed. new: those of them whom the run did not know.
    same: users in the data whose ratings are as they were. unknown: rows left out, of items that the run's catalogue
    does not have. new_items: items that the run did not know. rounds: how many there were.
    strange: users whose new ratings do not fit what the run knew of them; see hierfed.models.strangeness.
    """

    fitted: int
    new: int
    same: int
    unknown: int
    new_items: int = 0
    rounds: int = 0
    strange: tuple[str, ...] = ()


@one_torch_thread()
def update_run(
    folder: Path,
    source: str | None,
    level: Level = "users",
    *,
    rounds: int = USUAL_ROUNDS,
    keep: bool = False,
    withdraw: str | None = None,
    how: DataSettings | None = None,
    observer: Observer = SILENT,
) -> Updated:
    """Let a finished run learn from new, changed and withdrawn ratings, of its users and of new ones.

    source: ratings as they are now. A user whom it names has these ratings and no others, so a rating that it lacks is
    withdrawn; users whom it does not name stay as they are.
    level: `users`, whose own models alone are fitted: nothing is sent, and items that the run does not know wait. Of
    users who share a node, the items that they have rated anew learn too, at that node; see docs/decisions.md.
    `rounds`: further rounds from the shared model, over all ratings; new items are shared from here on, and get the
    numbers after the old ones'. The embedding is kept if ratings have only come, and made anew if one was withdrawn.
    `all`: a training from the start, with the hyperparameters that the run has chosen.
    keep: ratings that the source lacks stay, so that it may hold new ones alone.
    withdraw: a source of ratings to take back, whatever their stars. how: the form of both; None for that of the run's.
    Without any change no file is touched. Raises SettingsError where neither source is given, HierfedError for a run
    that cannot go on so.
    """
    if source is None and withdraw is None:
        raise SettingsError("nothing to learn from: name ratings with --data, or ratings to take back with --withdraw")
    if level not in LEVELS:
        raise HierfedError(f"no level '{level}': expected {', '.join(LEVELS)}")
    finish_move(folder)
    served = Served(folder)
    relearn = served.method.relearner(served.shared)
    if relearn is None or served.folder != folder:
        raise HierfedError(
            f"{folder}: users of method '{served.settings.method}' cannot be fitted again by themselves: train it "
            "anew, or take preset hierarchical, whose runs can be updated"
        )
    alone = level == "users"
    if not alone:
        refuse_others(folder, served)
    how, catalogue = how or data_settings(folder, served.settings), served.catalogue
    if source is not None and not alone:
        catalogue = grown(catalogue, source, how, served.settings)
    new = None if source is None else rows_of(source, how, catalogue)
    taken = None if withdraw is None else rows_of(withdraw, how, catalogue)
    named = pl.concat([part.users for part in (new, taken) if part is not None]).unique().sort().to_list()
    if alone:
        _refuse_several(folder, served.settings.method, named)
    before = kept_rows(folder, served.settings.method, named if alone else None)
    rated, withdrawn = (None if part is None else part.rated for part in (new, taken))
    after = before.changed(rated, withdrawn, keep, None if new is None else new.seen)
    users = before.differing(after)
    done = Updated(
        len(users),
        len(set(users).difference(before.user_ids)),
        len(named) - len(users),
        0 if new is None else new.unknown,
        len(catalogue) - len(served.catalogue),
        strange=tuple(strange_users(served, before, after)),
    )
    if not users:
        return done
    lost = before.lost(after) > 0
    if alone:
        if lost:
            (folder / HOLDS_WITHDRAWN).touch()
        _fit_users(folder, served, relearn, after, users)
        return done
    after.refuse_untimed()
    keeps = level == "rounds" and not lost and not (folder / HOLDS_WITHDRAWN).is_file()
    how_much = Renewal(level, rounds if level == "rounds" else None, keeps=keeps)
    record = renew(folder, after, catalogue, how_much, observer)
    return replace(done, rounds=record.rounds)


def strange_users(
    served: Served, before: KeptRows, after: KeptRows, false_alarms: float = FALSE_ALARMS
) -> Iterator[str]:
    """The users whose new ratings, in the order of time, raise the alarm of hierfed.models.strangeness.

    Items that the run does not know yet tell nothing. Changed ratings are no new ones.
    """
    old = pl.col("user").is_in(before.rows["user"].unique().to_list())
    new = after.rows.join(before.rows, on=PAIR, how="anti").filter(old & (pl.col("item") < len(served.catalogue)))
    for part in new.sort("user", "time", "item").partition_by("user", maintain_order=True):
        name = str(part["user"][0])
        known, item = served.user(name), part["item"].to_numpy(writable=True)
        rows = Ratings(np.zeros_like(item), item, part["rating"].to_numpy(writable=True))
        factors = None if known is None or not len(known.own) else known.model.strangeness(rows)
        if factors is not None and first_alarm(factors, false_alarms) is not None:
            yield name


def _fit_users(folder: Path, served: Served, relearn: Relearner, after: KeptRows, users: Sequence[str]) -> None:
    """Fit these users to their ratings. Of others no file is touched but those of nodes, whose users share them.

    A node's file comes last: after a crash between the two its items lack what its users have learned, and nothing is
    counted twice.
    """
    kind = served.settings.method
    rows = after.rows.filter(pl.col("user").is_in(list(users)))
    seen = after.seen.partition_by("user", as_dict=True)

    def write(user: str, former: Path | None, tensors: Mapping[str, Tensor]) -> None:
        items = seen.get((user,))
        besides = {} if items is None else {"seen": torch.from_numpy(items["item"].to_numpy(writable=True)).long()}
        if tensors or besides:
            write_user(folder, kind, user, {**tensors, **besides}, former)
        elif former is not None:
            former.unlink()

    for node, part in _groups(folder, rows):
        names = part["user"].unique().sort()
        files = [read_private(folder, kind, user) for user in names.to_list()]
        before = {number: found[0].tensors for number, found in enumerate(files) if found}
        model = relearn(ratings_of(part, names), before, None if node is None else read_node(folder, node))
        shared: Mapping[str, Tensor] = {}
        for number, tensors in model.tensors():
            if number is None:
                shared = tensors
                continue
            found = files[number]
            write(names[number], found[0].path if found else None, tensors)
        if node is not None and shared:
            write_node(folder, kind, node, shared)
    for user in sorted(set(users).difference(rows["user"])):
        found = read_private(folder, kind, user)
        write(user, found[0].path if found else None, {})
    list_files(folder)


def _groups(folder: Path, rows: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    """The rows of users who learn at once, with their node, or None for users who share none.

    Users whose times are not known learn apart from others.
    """
    if rows.is_empty():  # All was taken back.
        return
    homes = rows.group_by("user").agg(pl.col("node").first(), pl.col("time").null_count().alias("untimed"))
    several = {node: has_several(folder, node) for node in homes["node"].unique().to_list()}
    homes = homes.with_columns(
        untimed=pl.col("untimed") > 0,
        node=pl.when(pl.col("node").replace_strict(several, return_dtype=pl.Boolean)).then("node"),
    ).sort("user")
    for (node, _), group in homes.partition_by("node", "untimed", as_dict=True, maintain_order=True).items():
        names = group["user"].to_list()
        step = len(names) if node is not None else ALONE_AT_ONCE
        for begin in range(0, len(names), step):
            yield node, rows.filter(pl.col("user").is_in(names[begin : begin + step]))


def _refuse_several(folder: Path, kind: str, users: Sequence[str]) -> None:
    for user in users:
        if len(read_private(folder, kind, user)) > 1:
            raise HierfedError(
                f"{folder}: user {printable(user)} lies on several nodes: use --level rounds, or train the run anew"
            )
