"""A node's ratings as its source has them now, without those of users who asked to be forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from hierfed.data.reading.assembly import Source
from hierfed.data.reading.sources import read_ratings
from hierfed.data.settings import TableSettings
from hierfed.deployment.batches import user_marks
from hierfed.deployment.state import NodeState, Origin
from hierfed.errors import HierfedError

FORGOTTEN = "forgotten.json"


def read_source(origin: Origin) -> Source:
    """A node's ratings, as they are at their source now."""
    try:
        how = TableSettings(columns=dict(origin.columns), **origin.table)
    except ValueError as error:
        raise HierfedError("the node's state is damaged: it says nothing sound of the form of its table") from error
    return read_ratings(origin.source, how=how, test=origin.test or None, query=origin.query)


def own_source(state: NodeState, origin: Origin) -> Source:
    """The same without the users whom this node has forgotten; raises HierfedError where nobody else is left."""
    source, gone = read_source(origin), forgotten(state)
    if not gone:
        return source

    def left(ids: pl.Series) -> np.ndarray:
        return np.array([mark in gone for mark in user_marks(state, ids)], bool)

    train = source.train.without_users(left)
    test = None if source.test is None else source.test.without_users(left)
    if not len(train):
        raise HierfedError(f"--state {state.folder}: all users of this node are forgotten, and no rating is left")
    return replace(source, train=train, test=test if test is not None and len(test) else None)


def forgotten(state: NodeState) -> frozenset[str]:
    """The marks of the users whom this node has forgotten."""
    return frozenset(state.record(FORGOTTEN).get("users", ()))
