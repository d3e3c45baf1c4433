"""Simple baselines that every federated figure must stand beside, on the same test rows."""

from __future__ import annotations

import numpy as np

from hierfed.data.ratings import Ratings
from hierfed.models.baselines import fit_biases, fit_global_mean, fit_item_mean, fit_user_mean
from hierfed.models.metrics import rating_errors


def simple_baselines(
    train: Ratings, test: Ratings, users: int, items: int, pooled: np.ndarray | None = None
) -> dict[str, float]:
    """RMSE on `test` of the global, item and user means and of user + item biases, fitted on `train`.

    pooled: bool [items], True for items that are never summed. If there are any, a further baseline is held to the same
    threshold: these items share one bias.
    """
    fits = {
        "global_mean": fit_global_mean,
        "item_mean": fit_item_mean,
        "user_mean": fit_user_mean,
        "biases": fit_biases,
    }
    fitted = {name: fit(train, users, items) for name, fit in fits.items()}
    if pooled is not None and pooled.any():
        fitted["pooled_biases"] = fit_biases(train, users, items, pooled)
    return {name: rating_errors(found.predict(test), test.value, test.user).rmse for name, found in fitted.items()}
