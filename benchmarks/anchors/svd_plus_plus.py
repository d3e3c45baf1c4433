"""Anchor: SVD++, which also learns from what a user has rated at all (scikit-surprise's SVDpp).

Settings chosen on the validation rows of seed 0, warm, beside surprise's own (20 epochs, penalty .02) and penalty .05.
"""

from importlib.metadata import version

import numpy as np
from surprise import SVDpp
from surprise_models import fit_and_predict
from task import Task, run_anchor

SETTINGS = {"n_factors": 20, "n_epochs": 40, "lr_all": 0.01, "reg_all": 0.1, "cache_ratings": True}


def predict(task: Task) -> np.ndarray:
    """Biases plus a product of factors, the user's with those of the rated items."""
    return fit_and_predict(SVDpp(random_state=task.seed, **SETTINGS), task)


if __name__ == "__main__":
    run_anchor("SVD++", f"scikit-surprise {version('scikit-surprise')}", predict)
