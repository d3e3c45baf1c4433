"""Users of a finished run learn from their ratings as they are now. The shared model stays, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from hierfed.data.ratings import Ratings, concatenated
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.errors import HierfedError
from hierfed.plain_text import printable
from hierfed.runs.private_files import list_files, read_private, write_user
from hierfed.serving.served import Served
from hierfed.settings import load_settings

# Ratings in users' own files went through the scale of models.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Updated:
    """The outcome of an update.

    fitted: users fitted anew. new: those of them whom the run did not know.
    same: users whose ratings are as they were. unknown: rows left out, of items that the run's catalogue does not have.
    """

    fitted: int
    new: int
    same: int
    unknown: int


def update_users(folder: Path, source: str) -> Updated:
    """Fit users whose ratings have changed, and new users; nobody else's file is touched.

    source: ratings as they are now. A user whom it names has these ratings and no others, so a rating that it lacks is
    withdrawn; users whom it does not name stay as they are.
    Raises HierfedError for a run whose users cannot be fitted again, and for a user who lies on several nodes.
    """
    served = Served(folder)
    relearn = served.method.relearner(served.shared)
    if relearn is None or served.folder != folder:
        raise HierfedError(f"{folder}: users of this run cannot be fitted again by themselves: train it anew")
    how = load_settings(folder / "settings.toml").data
    own = own_ratings(read_ratings(source, how=how), served.catalogue)
    fitted, new, same = 0, 0, 0
    for user, rows in _by_user(concatenated([own.train, own.test])):
        name = str(own.user_ids[user])
        files = read_private(folder, served.settings.method, name)
        if len(files) > 1:
            raise HierfedError(f"{folder}: user {printable(name)} lies on several nodes: train the run anew")
        before = files[0].tensors if files else {}
        if before and _same(before, rows):
            same += 1
            continue
        for _, tensors in relearn(rows, before).tensors():
            write_user(folder, served.settings.method, name, tensors, files[0].path if files else None)
        fitted, new = fitted + 1, new + (not files)
    if fitted:
        list_files(folder)
    return Updated(fitted, new, same, own.unknown)


def _by_user(rows: Ratings) -> Iterator[tuple[int, Ratings]]:
    """Each user's number and rows, by item, as rows of user 0."""
    rows = rows.take(np.lexsort((rows.item, rows.user)))
    starts = np.flatnonzero(np.diff(rows.user, prepend=-1)).tolist()
    for begin, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        mine = rows.between(begin, end)
        yield int(mine.user[0]), Ratings(np.zeros_like(mine.user), mine.item, mine.value, mine.time)


def _same(kept: Mapping[str, Tensor], rows: Ratings) -> bool:
    """True if a user's own file was made of these rows, which are by item; times count where both have them."""
    items, order = kept["items"].sort()
    if not np.array_equal(items.numpy(), rows.item):
        return False
    if not np.allclose(kept["ratings"][order].numpy(), rows.value, rtol=0, atol=ROUNDING):
        return False
    return rows.time is None or "times" not in kept or np.array_equal(kept["times"][order].numpy(), rows.time)
