"""Anchor: biased matrix factorisation by stochastic gradient descent (scikit-surprise's SVD).

Settings chosen on the validation rows of seed 0, warm, from 50 to 200 factors, 20 to 160 epochs, penalties .02 to .15.
"""

from importlib.metadata import version

import numpy as np
from surprise import SVD
from surprise_models import fit_and_predict
from task import Task, run_anchor

SETTINGS = {"n_factors": 100, "n_epochs": 120, "lr_all": 0.01, "reg_all": 0.12, "reg_bu": 0.05, "reg_bi": 0.1}


def predict(task: Task) -> np.ndarray:
    """Biases plus a product of factors."""
    return fit_and_predict(SVD(random_state=task.seed, **SETTINGS), task)


if __name__ == "__main__":
    run_anchor("SVD", f"scikit-surprise {version('scikit-surprise')}", predict)
