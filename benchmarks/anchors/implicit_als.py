"""Anchor of ranking: implicit alternating least squares (Hu, Koren and Volinsky, 2008) by the package implicit.

Settings chosen on the validation rows of seed 0, warm, from 32 or 64 factors, penalties .1 to 30, confidence 1 to 20.
"""

from importlib.metadata import version

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from task import Task, run_ranking_anchor, seen_matrix

SETTINGS = {"factors": 32, "regularization": 10.0, "alpha": 3.0, "iterations": 15}


def score(task: Task) -> np.ndarray:
    """Scores [users, items]."""
    model = AlternatingLeastSquares(**SETTINGS, num_threads=1, use_gpu=False, random_state=task.seed)
    model.fit(csr_matrix(seen_matrix(task), dtype=np.float32), show_progress=False)
    scores: np.ndarray = model.user_factors @ model.item_factors.T
    return scores.astype(np.float64)


if __name__ == "__main__":
    run_ranking_anchor("iALS", f"implicit {version('implicit')}", score)
