"""The users whose ratings change between two trainings of a node: an update takes in none of them, or several at once.

The difference of two sums between which one user came, changed or left is that user. A node keeps a mark of each user's
rows, made with a secret of its own, from the last training that it sent sums to.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.own import OwnRatings, id_numbers
from hierfed.deployment.plan import Plan
from hierfed.deployment.state import NodeState
from hierfed.errors import HierfedError

TAUGHT = "taught.json"


def user_marks(state: NodeState, users: pl.Series | list[str]) -> list[str]:
    """The node's own names for these users' ids."""
    return state.marks(b"user " + str(user).encode() for user in users)


def taught(state: NodeState) -> tuple[str, dict[str, str]]:
    """The last training that this node sent sums to, and the mark of each user's rows in it, by the user's mark."""
    record = state.record(TAUGHT)
    users: Mapping[str, str] = record.get("users", {})
    return str(record.get("training", "")), dict(users)


def rows_taught(state: NodeState, own: OwnRatings, catalogue: Catalogue) -> dict[str, str]:
    """The mark of each user's rows to learn from, by the user's mark."""
    train = own.train
    # Numbers of items may be others in another training; their ids are not.
    row = np.empty(len(train), [("item", "<u8"), ("value", "<f4")])
    row["item"], row["value"] = id_numbers(catalogue.frame["item_id"], "item")[train.item], train.value
    row = row[np.lexsort((row["item"], train.user))]
    numbers, starts = np.unique(train.user, return_index=True)
    texts = (row[start:end].tobytes() for start, end in pairwise([*starts.tolist(), len(row)]))
    return dict(zip(user_marks(state, own.user_ids.gather(numbers)), state.marks(texts), strict=True))


def check_batch(state: NodeState, plan: Plan, now: Mapping[str, str], least: int) -> None:
    """Raise HierfedError for an update that takes in fewer than `least` users who came, changed or left.

    And for one that keeps the embedding, if a user has left who is in it.
    now: see rows_taught. A training from the start, and one that the node has begun already, may.
    """
    training, before = taught(state)
    if plan.update is None or training == plan.training:
        return
    left = len(before.keys() - now.keys())
    if plan.update.keeps and left:
        raise HierfedError(
            f"{left} users of this node have left since its last training, and --keep-embedding would keep what the "
            "model holds of them: update without it"
        )
    changed = sum(before.get(user) != now.get(user) for user in {*before, *now})
    if 0 < changed < least:
        raise HierfedError(
            f"{changed} of at least {least} users of this node have other ratings than in its last training: who "
            "compares the sums of both would read them: wait for more, take part in a training from the start, or give "
            "a --policy with another least_users"
        )


def note_taught(state: NodeState, plan: Plan, now: Mapping[str, str]) -> None:
    """Note, before the first sum of a training is sent, of which rows it is."""
    if taught(state)[0] != plan.training:
        state.keep_record(TAUGHT, {"training": plan.training, "users": dict(now)})
