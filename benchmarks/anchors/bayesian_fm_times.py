"""Anchor: the Bayesian factorisation machine that knows when a row was rated, in training and when it is asked.

Beside the blocks of `bayesian_fm.py`, with implicit sets both ways: the user on this day, the item in this month, and
the day itself (the time-aware factorisation machines of Rendle, Zhang and Koren, 2019). A day of a user, or a month of
an item, without a train row is no feature of a row.
"""

from importlib.metadata import version

import numpy as np
from bayesian_fm import predict
from task import Task, run_anchor

DAY, MONTH = 86_400, 30 * 86_400


def numbered(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Numbers of the known and of the asked keys among the known ones, and how many there are, the number of others."""
    keys, numbers = np.unique(known, return_inverse=True)
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return numbers, np.where(keys[places] == asked, places, len(keys)), len(keys)


def times(task: Task) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """The blocks of times."""
    rows = (task.train, task.asked)
    keys = [
        [each.user.astype(np.int64) * 10**6 + each.time // DAY for each in rows],
        [each.item.astype(np.int64) * 10**6 + each.time // MONTH for each in rows],
        [each.time // DAY for each in rows],
    ]
    return [numbered(*pair) for pair in keys]


if __name__ == "__main__":
    run_anchor("Bayesian FM with times", f"myfm {version('myfm')}", lambda task: predict(task, times))
