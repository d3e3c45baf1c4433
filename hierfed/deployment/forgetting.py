"""Users of a node who ask to be forgotten: their own files go, and their rows are never read again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hierfed.deployment.batches import TAUGHT, taught, user_marks
from hierfed.deployment.round_states import RoundStates
from hierfed.deployment.sources import FORGOTTEN, forgotten, own_source
from hierfed.deployment.state import NodeState, record_in
from hierfed.errors import HierfedError, NotPersonalisedError
from hierfed.plain_text import printable
from hierfed.runs.private_files import list_files, user_file
from hierfed.runs.served_pair import keep_only_pair, keep_pair_before, pair_folder, replace_pair
from hierfed.serving.forgetting import LEAST_USERS, remains_of


@dataclass(frozen=True)
class ForgottenHere:
    """The outcome. users: how many. waiting: those whose part in the shared model leaves with the next training.

    remains: files of the same users that lie near the node's state, and stay.
    """

    users: int
    waiting: int
    remains: tuple[Path, ...]


@dataclass(frozen=True)
class ForgottenUsers:
    """The users whom a node has forgotten so far: how many, and when the last ones, in seconds since 1970.

    waiting: those whose part in the shared model leaves with the next training.
    """

    users: int
    waiting: int
    last: int


def forgotten_users(folder: Path) -> ForgottenUsers:
    """The users whom the node with this state has forgotten; another process may hold the folder."""
    record, known = record_in(folder, FORGOTTEN), record_in(folder, TAUGHT).get("users", {})
    gone, entries = record.get("users", ()), record.get("entries", ())
    return ForgottenUsers(len(gone), len({*gone} & {*known}), max((int(each["at"]) for each in entries), default=0))


def forget_at_node(
    state: NodeState, users: Sequence[str], *, least: int = LEAST_USERS, fresh_rounds: bool = False
) -> ForgottenHere:
    """Destroy what a node's state holds of users, and leave their rows out from now on.

    Their part in the shared model leaves with the next training that this node takes part in.
    least: fewer who were in the last one are refused, unless `fresh_rounds`: then it has to be one from the start.
    Raises HierfedError for users whom the node does not know.
    """
    names = list(dict.fromkeys(users))
    if not names:
        raise HierfedError(f"--state {state.folder}: name users to forget")
    marks = dict(zip(names, user_marks(state, names), strict=True))
    (training, before), gone = taught(state), forgotten(state)
    _refuse_strangers(state, [name for name, mark in marks.items() if mark not in {*before, *gone}])
    waiting = len({*gone, *marks.values()} & {*before}) if training or state.plan() is None else len(names)
    if 0 < waiting < least and not fresh_rounds:
        raise HierfedError(
            f"{waiting} of at least {least} users: who compares the sums before and after would read them: name more, "
            "or say --fresh-rounds, after which this node takes part in no --update until enough users have changed"
        )
    record = state.record(FORGOTTEN)
    entry = {"at": int(time.time()), "users": len({*marks.values()} - gone), "training": training}
    # Written first: a process that ends on the way has left nobody's rows to be read again.
    state.keep_record(
        FORGOTTEN, {"users": sorted({*gone, *marks.values()}), "entries": [*record.get("entries", ()), entry]}
    )
    _destroy(state.folder, names)
    return ForgottenHere(len(names), waiting, remains_of(state.folder, names))


def _refuse_strangers(state: NodeState, names: Sequence[str]) -> None:
    """Raise HierfedError for the first of the users who has neither a file nor a row here."""
    unknown = [name for name in names if not _files(state.folder, [name])]
    if not unknown:
        return
    source = own_source(state, state.origin)
    parts = [source.train] if source.test is None else [source.train, source.test]
    seen = [part.seen["user"] for part in parts if part.seen is not None]
    known = {str(user) for ids in [*(part.user.ids for part in parts), *seen] for user in ids}
    for name in unknown:
        if name not in known:
            raise HierfedError(f"--state {state.folder}: no user '{printable(name)}' at this node")


def _destroy(folder: Path, users: Sequence[str]) -> None:
    """Serve from a pair without these users, and delete every other one, and what rounds keep of all users."""
    for path in RoundStates(folder).files():
        path.unlink()
    if not _files(folder, users):
        return
    keep_pair_before(folder)
    try:
        pair = pair_folder(folder)
    except NotPersonalisedError:
        return
    gone = {f"{name}.safetensors" for user in users for name in _names(user)}

    def fill(place: Path) -> None:
        shutil.copytree(pair, place, dirs_exist_ok=True, ignore=lambda _, found: gone.intersection(found))
        list_files(place)

    replace_pair(folder, fill)
    keep_only_pair(folder)


def _files(folder: Path, users: Sequence[str]) -> list[Path]:
    """The users' own files in a node's state."""
    return [path for user in users for name in _names(user) for path in folder.rglob(f"{name}.safetensors")]


def _names(user: str) -> tuple[str, str]:
    """The names of a user's own file, that of versions before too."""
    return user_file(user), f"user-{quote(user, safe='')}"
