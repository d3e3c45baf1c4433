"""Simple baselines that every federated figure must stand beside, on the same test rows."""

from __future__ import annotations

from hierfed.data.ratings import Ratings
from hierfed.models.baselines import fit_biases, fit_global_mean, fit_item_mean, fit_user_mean
from hierfed.models.metrics import rating_errors


def simple_baselines(train: Ratings, test: Ratings, users: int, items: int) -> dict[str, float]:
    """RMSE on `test` of the global, item and user means and of user + item biases, fitted on `train`."""
    fits = {
        "global_mean": fit_global_mean,
        "item_mean": fit_item_mean,
        "user_mean": fit_user_mean,
        "biases": fit_biases,
    }
    return {
        name: rating_errors(fit(train, users, items).predict(test), test.value, test.user).rmse
        for name, fit in fits.items()
    }
