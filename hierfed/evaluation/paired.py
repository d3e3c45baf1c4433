"""Tests of paired differences."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr


def paired_p_value(differences: np.ndarray) -> float | None:
    """Two-sided p-value of Student's paired t-test that the mean difference is 0.

    None where it is not defined: fewer than two differences, or all of them equal.
    """
    finite = differences[np.isfinite(differences)]
    if len(finite) < 2:
        return None
    if np.ptp(finite) == 0:
        return None
    statistic = finite.mean() / (finite.std(ddof=1) / np.sqrt(len(finite)))
    return float(2 * stdtr(len(finite) - 1, -abs(statistic)))
