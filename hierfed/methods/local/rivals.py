"""Each user alone, as a rival of methods that send something."""

from __future__ import annotations

import numpy as np

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.grouping import count, look_up
from hierfed.data.ratings import Ratings
from hierfed.federated.method import RivalErrors, RivalRows
from hierfed.methods.local.local import LocalOnly
from hierfed.models.metrics import rating_errors

ALONE = "each user alone, with nothing sent"
# Train ratings of the users who are processed together; the last user may exceed it.
_PIECE = 1 << 20


def each_user_alone(content: Content, limits: tuple[float, float], threads: int, rows: RivalRows) -> RivalErrors:
    """The errors of method `local` on the same rows."""
    local = LocalOnly(content, limits, threads)
    found = local_rmse(local, rows.train, rows.test)
    personal = found if rows.same else local_rmse(local, rows.personal_train, rows.personal_test)
    return RivalErrors(local_only=found, personal_local_only=personal)


def local_rmse(local: LocalOnly, train: Ratings, test: Ratings) -> float:
    """RMSE on `test` if each user learns alone from their own rows of `train`, and nothing is sent.

    Users are processed in pieces, since a model holds the item features of each of its ratings.
    """
    users = 1 + int(max(train.user.max(), test.user.max()))
    piece = np.cumsum(count(train.user, users)) // _PIECE
    of_train, of_test = look_up(piece, train.user), look_up(piece, test.user)
    found = np.empty(len(test))
    for number in np.unique(of_test):
        rows = np.flatnonzero(of_test == number)
        node = Node(0, "everyone", train.take(of_train == number), test.take(rows))
        (model,) = local.personalise(local.start(), [node], [None])
        found[rows] = model.predict(node.test).numpy()
    return rating_errors(found, test.value, test.user).rmse
