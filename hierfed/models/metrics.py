"""Errors of predicted ratings."""

from __future__ import annotations

import numpy as np

from hierfed.results import Errors


def rating_errors(predicted: np.ndarray, actual: np.ndarray, user: np.ndarray) -> Errors:
    """RMSE and MAE over rows, and the mean over users of each user's RMSE, in stars; all NaN if there are no rows.

    predicted, actual: [rows].
    user: the user of each row.
    """
    if len(actual) == 0:
        return Errors(rmse=np.nan, mae=np.nan, user_macro_rmse=np.nan)
    error = predicted.astype(np.float64) - actual
    return Errors(
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.mean(np.abs(error))),
        user_macro_rmse=float(user_rmse(error, user)[1].mean()),
    )


def user_rmse(error: np.ndarray, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The users that occur, ascending, and the RMSE of each over its own rows."""
    users, member = np.unique(user, return_inverse=True)
    return users, np.sqrt(np.bincount(member, error**2) / np.bincount(member))
