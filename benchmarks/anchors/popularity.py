"""Anchor of ranking: the items that most users have rated, for everyone."""

import numpy as np
from task import Task, run_ranking_anchor, seen_matrix

import hierfed


def score(task: Task) -> np.ndarray:
    """Scores [users, items]: the number of raters."""
    seen = seen_matrix(task)
    return np.tile(np.asarray(seen.sum(0)).ravel(), (seen.shape[0], 1))


if __name__ == "__main__":
    run_ranking_anchor("popularity", f"hierfed {hierfed.__version__}", score)
