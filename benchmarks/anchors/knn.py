"""Anchor: k nearest items (scikit-surprise's KNNBaseline, item-based, Pearson correlations of what biases leave).

Settings chosen on the validation rows of seed 0, warm, from k 20 to 100, shrinkage 50 to 300 and support 1 or 3.
"""

from importlib.metadata import version

import numpy as np
from surprise import KNNBaseline
from surprise_models import fit_and_predict
from task import Task, run_anchor

NEIGHBOURS = 40
SIMILARITY = {"name": "pearson_baseline", "user_based": False, "shrinkage": 200, "min_support": 1}


def predict(task: Task) -> np.ndarray:
    """Biases plus the weighted residuals of the most similar items that the user has rated."""
    return fit_and_predict(KNNBaseline(k=NEIGHBOURS, sim_options=SIMILARITY, verbose=False), task)


if __name__ == "__main__":
    run_anchor("kNN", f"scikit-surprise {version('scikit-surprise')}", predict)
