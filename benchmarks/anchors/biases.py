"""Anchor: user and item biases, the package's own baseline on pooled rows."""

import numpy as np
from task import Task, run_anchor

import hierfed
from hierfed.models.baselines import fit_biases


def predict(task: Task) -> np.ndarray:
    """Mean + user bias + item bias."""
    return fit_biases(task.train, task.dataset.users, task.dataset.items).predict(task.asked)


if __name__ == "__main__":
    run_anchor("biases", f"hierfed {hierfed.__version__}", predict)
