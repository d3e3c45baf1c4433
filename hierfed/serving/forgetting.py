"""Users who ask to be forgotten: their files go, and further rounds over all others take them out of the shared model.

The difference of two sums between which one user left is that user. So at least `least` users leave at once; fewer only
where the caller says so, and then all rounds are made anew, which leaves the counts of raters alone to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hierfed.errors import HierfedError
from hierfed.plain_text import printable
from hierfed.runs.kept_rows import kept_rows
from hierfed.runs.private_files import user_file
from hierfed.serving.renewing import Renewal, finish_move, refuse_others, renew
from hierfed.serving.served import Served

LEAST_USERS = 5
# Stars, root mean square over a newcomer's expected ratings, and most rounds.
TOLERANCE, MOST_ROUNDS = 0.001, 16


@dataclass(frozen=True)
class Forgotten:
    """The outcome. users, rounds: how many. remains: files of the same users that lie near the run, and stay."""

    users: int
    rounds: int
    remains: tuple[Path, ...]


def forget_users(
    folder: Path,
    users: Sequence[str],
    *,
    least: int = LEAST_USERS,
    fresh_rounds: bool = False,
    tolerance: float = TOLERANCE,
    most_rounds: int = MOST_ROUNDS,
) -> Forgotten:
    """Take users out of a run: their rows, their own files, and what they gave to the sums.

    least: fewer are refused, unless `fresh_rounds`. fresh_rounds: the training begins from the start.
    tolerance, most_rounds: rounds go on until one moves a newcomer's expected ratings by less, or until there are so
    many.
    Raises HierfedError for users whom the run does not know, and for a run that cannot go on.
    """
    finish_move(folder)
    served, names = Served(folder), list(dict.fromkeys(users))
    refuse_others(folder, served)
    rows = kept_rows(folder, served.settings.method)
    known = set(rows.user_ids)
    strangers = [name for name in names if name not in known]
    if strangers or not names:
        told = printable(strangers[0]) if strangers else ""
        raise HierfedError(f"{folder}: " + (f"no user '{told}' in this run" if strangers else "name users to forget"))
    if len(names) < least and not fresh_rounds:
        raise HierfedError(
            f"{len(names)} of at least {least} users: who compares the sums before and after would read them: name "
            "more, or say --fresh-rounds, after which counts of raters still tell which items they had"
        )
    how = Renewal("forget", None if fresh_rounds else most_rounds, 0 if fresh_rounds else tolerance, len(names))
    record = renew(folder, rows.without(names), served.catalogue, how)
    return Forgotten(len(names), record.rounds, remains_of(folder, names))


def remains_of(folder: Path, users: Sequence[str]) -> tuple[Path, ...]:
    """Files of these users in the run's folder and beside it: in other runs, in copies, and in nodes' states."""
    place = folder.resolve().parent
    return tuple(sorted(path for user in users for path in place.rglob(f"{user_file(user)}.safetensors")))
