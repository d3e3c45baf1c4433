"""Splits of the rows: rows to learn from, and rows to be judged on."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from hierfed.data.grouping import blocks, distinct, look_up, on_threads, rows_where
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError


@dataclass(frozen=True)
class Split:
    """Row numbers of one data set, in parts that sum to the whole: ascending, of the type that `rows_where` gives.

    If the personalisation users are the federated users, personal_train and personal_test are train and test. If the
    global model is judged on the personalisation users alone, test is personal_test. Else all five parts are disjoint.

    train: rows that the global model learns from.
    test: rows that judge it each round.
    personal_train: rows that personal models are fitted on.
    personal_test: rows that judge personal models.
    unused: rows left out by sampling.
    """

    train: np.ndarray
    test: np.ndarray
    personal_train: np.ndarray
    personal_test: np.ndarray
    unused: np.ndarray

    def sizes(self) -> dict[str, int]:
        """The number of rows in each part."""
        return {part.name: len(getattr(self, part.name)) for part in fields(self)}


def hold_out(rows: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows at random into (kept, held out), both ascending; round(fraction * rows) are held out."""
    order = rng.permutation(len(rows))
    is_held = np.zeros(len(rows), bool)
    is_held[order[: round(fraction * len(rows))]] = True
    # A stable sort of sorted rows takes a single pass.
    return np.sort(rows[~is_held], kind="stable"), np.sort(rows[is_held], kind="stable")


def two_groups(
    ratings: Ratings,
    *,
    federated_users: float,
    train_rows: float,
    sample: float,
    personal_train_rows: float,
    rng: np.random.Generator,
) -> Split:
    """The paper's split: some users make the global model, the others personalise it.

    federated_users: share of the users in the first group.
    train_rows: share of the first group's rows that train.
    sample: share of these train rows that is used.
    personal_train_rows: share of the second group's rows that fit personal models.
    """
    is_federated = _of_some_users(ratings.user, federated_users, rng)
    train, test = hold_out(rows_where(is_federated), 1 - train_rows, rng)
    train, unused = hold_out(train, 1 - sample, rng)
    personal_train, personal_test = hold_out(rows_where(~is_federated), 1 - personal_train_rows, rng)
    return checked(Split(train, test, personal_train, personal_test, unused), len(ratings))


def warm(ratings: Ratings, *, test_share: float, rng: np.random.Generator) -> Split:
    """Every user is known. A share of each user's rows, and at least one of two, is test; the others train."""
    return _users_themselves(last_of_each_user(ratings.user, rng.random, test_share))


def temporal(ratings: Ratings, *, test_share: float) -> Split:
    """Each user's newest rows are test: a share of them, and at least one of two.

    Among rows of one time, the last listed.

    Raises DataError if the source has no times, or none that differ within a user's rows.
    """
    if ratings.time is None:
        raise DataError("protocol 'temporal' needs timestamps, and this source has none: choose 'warm' or 'cold'")
    split = _users_themselves(last_of_each_user(ratings.user, ratings.time, test_share))
    if tied_share(ratings, split) == 1:
        one = ratings.time.min() == ratings.time.max()
        alike = f"all {len(ratings):,} ratings bear" if one else "the newest and the older ratings of every user bear"
        raise DataError(
            f"protocol 'temporal': {alike} the same time, so there is nothing to order by: choose 'warm' or 'cold'"
        )
    return split


def loo(ratings: Ratings, *, rng: np.random.Generator) -> Split:
    """Leave one out: the newest row of each user with at least two is test.

    Among rows of one time, the last listed. Where no time tells a user's rows apart, the test row is drawn at random.
    """
    if ordered(ratings):
        assert ratings.time is not None
        return _users_themselves(last_of_each_user(ratings.user, ratings.time, 0.0))
    return _users_themselves(last_of_each_user(ratings.user, rng.random, 0.0))


def ordered(ratings: Ratings) -> bool:
    """True if any user has rows of different times."""
    if ratings.time is None:
        return False
    split = _users_themselves(last_of_each_user(ratings.user, ratings.time, 0.0))
    first = np.full(int(ratings.user.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, ratings.user, ratings.time)
    return bool((ratings.time[split.test] > first[ratings.user[split.test]]).any())


def tied_share(ratings: Ratings, split: Split) -> float:
    """The share of the test rows with the same time as their user's newest train row.

    For such rows only the order of the source decides between train and test.
    """
    if ratings.time is None:
        return 1.0
    newest = np.full(int(ratings.user.max()) + 1, np.iinfo(np.int64).min)
    np.maximum.at(newest, ratings.user[split.train], ratings.time[split.train])
    tied = ratings.time[split.test] == newest[ratings.user[split.test]]
    return float(tied.mean())


def cold(ratings: Ratings, *, federated_users: float, test_share: float, rng: np.random.Generator) -> Split:
    """Some users make the global model with all their rows. It is judged on the other users, which it has never seen.

    federated_users: share of the users in the first group.
    test_share: share of the rows of each user of the second group, at least one of two, that is test. The user
    personalises with the others.
    """
    is_federated = _of_some_users(ratings.user, federated_users, rng)
    newcomers = rows_where(~is_federated)
    is_test = last_of_each_user(ratings.user[newcomers], rng.random, test_share)
    train, test = rows_where(is_federated), newcomers[is_test]
    return checked(Split(train, test, newcomers[~is_test], test, train[:0]), len(ratings))


def given(test_rows: np.ndarray, *, sample: float, rng: np.random.Generator) -> Split:
    """The source's own test rows. The others train, and every user is a personalisation user too.

    test_rows: bool [rows].
    """
    train, unused = hold_out(rows_where(~test_rows), 1 - sample, rng)
    test = rows_where(test_rows)
    return checked(Split(train, test, train, test, unused), len(test_rows))


def renumbered(split: Split, rows: np.ndarray, unused: np.ndarray) -> Split:
    """The split of some rows of a data set as one of the whole.

    rows: their numbers in it, ascending. unused: the numbers of the others.
    """
    parts = {id(part): rows[part] for part in (split.train, split.test, split.personal_train, split.personal_test)}
    return Split(
        parts[id(split.train)],
        parts[id(split.test)],
        parts[id(split.personal_train)],
        parts[id(split.personal_test)],
        np.union1d(rows[split.unused], unused),
    )


def everything(rows: int) -> Split:
    """Every row is learned from, by the global and by the personal models, and nothing is judged."""
    train = np.arange(rows)
    if not rows:
        raise DataError("there are no ratings to learn from")
    return Split(train, train[:0], train, train[:0], train[:0])


def _users_themselves(is_test: np.ndarray) -> Split:
    """The split in which every user is a personalisation user with the rows that train the global model."""
    train, test = rows_where(~is_test), rows_where(is_test)
    return checked(Split(train, test, train, test, train[:0]), len(is_test))


def _of_some_users(user: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Bool [rows]: True for the rows of a random share of the users."""
    users = distinct(user)
    drawn = np.zeros(users[-1] + 1 if len(users) else 0, bool)
    drawn[rng.permutation(users)[: round(share * len(users))]] = True
    return look_up(drawn, user)


def checked(split: Split, total: int) -> Split:
    """The split itself, after a check that no test row is learned from and that the parts sum to the whole.

    Raises DataError if a part that a run needs is empty.
    """
    parts = {id(rows): rows for rows in (getattr(split, part.name) for part in fields(split))}.values()
    seen = np.zeros(total, bool)

    def see(rows: np.ndarray) -> None:
        if 0 <= rows.min() <= rows.max() < total:
            seen[rows.astype(np.intp, copy=False)] = True

    on_threads(see, (rows[block] for rows in parts for block in blocks(len(rows))))
    # The right number of rows, and each row seen: none is used twice.
    if sum(map(len, parts)) != total or not seen.all():
        raise AssertionError("the parts of a split overlap or do not sum to the whole")
    for name in ("train", "test", "personal_train", "personal_test"):
        if len(getattr(split, name)) == 0:
            raise DataError(
                f"the split leaves no {name.replace('_', ' ')} rows out of {total:,} ratings: "
                "use more ratings, or change the shares under [split]"
            )
    return split
