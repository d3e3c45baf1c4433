"""How scikit-surprise's algorithms are given a task."""

import numpy as np
from surprise import AlgoBase, Dataset, Reader
from task import Task


def fit_and_predict(algorithm: AlgoBase, task: Task) -> np.ndarray:
    """Fit an algorithm on the train rows and let it estimate the asked ones."""
    train = task.train
    low, high = float(train.value.min()), float(train.value.max())
    data = Dataset(Reader(rating_scale=(low, high)))
    times = [None] * len(train)
    rows = zip(train.user.tolist(), train.item.tolist(), train.value.tolist(), times, strict=True)
    algorithm.fit(data.construct_trainset(list(rows)))
    asked = zip(task.asked.user.tolist(), task.asked.item.tolist(), strict=True)
    return np.array([algorithm.predict(user, item).est for user, item in asked])
