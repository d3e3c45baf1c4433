"""The hierarchical model for a page: what a browser needs to make a new user's posterior and kriging.

`hierfed/page/static/model.js` computes with it. The rounded numbers can be taken back, so that both can be compared.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hierfed.methods.hierarchical.design import FLAG_COVARIATE_SCALE
from hierfed.methods.hierarchical.knowledge import QUALITY_SLOPE_VARIANCE, SharedKnowledge
from hierfed.methods.hierarchical.observations import NOISE_FALL
from hierfed.methods.hierarchical.personalising import SWEEPS
from hierfed.methods.hierarchical.users import COVARIATE_SHRINKAGE, FACTOR_COVARIATE_SCALE
from hierfed.models.browser import BrowserModel, Rounded, rounded, rounded_letters
from hierfed.models.kernel import ItemKernel
from hierfed.models.noise_levels import LEVELS, STRENGTH

WORDS = {
    "item_mean": "what is believed of each item: how good it is, and its factors",
    "item_covariance": "how sure that is",
    "raters": "how many have rated each item; half the threshold for items under it",
    "slopes": "public features of the items",
    "part": "public features, and the embedding by what was rated together: which items are alike",
    "letters": "groups of letters in the titles: which titles are alike",
    "covariate_weights": "what people like who rate such items: the users' prior means",
    "user_spread": "how users differ",
    "average": "the factors of the average rating",
    "covariate_factors": "scales of the features in users' prior means",
}


def browser_model(knowledge: SharedKnowledge, strength: float) -> BrowserModel:
    """The numbers for a page. strength: a0, of the prior of users' precisions.

    Raises ValueError for a model without kriging, which the page does not compute.
    """
    if knowledge.kernel is None:
        raise ValueError("this model has no kriging, and the page's formulas have")
    kernel, scale = knowledge.kernel, knowledge.scale
    of_items = _of_items(knowledge)
    near = with_rounded(knowledge, of_items)
    beliefs = near.beliefs
    return BrowserModel(
        constants={
            "centre": scale.centre,
            "unit": scale.unit,
            "lowest": scale.lowest,
            "highest": scale.highest,
            "precision": float(beliefs.precision),
            "strength": strength,
            "noise_share": knowledge.noise_share,
            "deviation_scale": knowledge.deviation_scale,
            "sweeps": SWEEPS,
            "noise_fall": NOISE_FALL,
            "quality_slope_variance": QUALITY_SLOPE_VARIANCE,
            "covariate_shrinkage": COVARIATE_SHRINKAGE,
            "factor_covariate_scale": FACTOR_COVARIATE_SCALE,
            "kriging_strength": STRENGTH,
            "levels": list(LEVELS),
            "amplitudes": [amplitude for amplitude, _ in kernel.parts],
            "title_amplitude": kernel.title_amplitude if kernel.titles is not None else 0.0,
        },
        small={
            "covariate_weights": beliefs.covariate_weights.numpy(),
            "user_spread": beliefs.user_spread.numpy(),
            "average": near.moments.average.numpy(),
            "covariate_factors": _covariate_factors(knowledge).numpy(),
        },
        of_items=of_items,
        letters=None if kernel.titles is None else rounded_letters(kernel.titles),
        words=WORDS,
    )


def with_rounded(knowledge: SharedKnowledge, of_items: dict[str, Rounded]) -> SharedKnowledge:
    """The knowledge with its arrays of items as the page has them."""
    values = {name: torch.from_numpy(each.values) for name, each in of_items.items()}
    kernel = knowledge.kernel
    assert kernel is not None
    slopes = values["slopes"]
    parts = tuple((amplitude, values[f"part_{number}"]) for number, (amplitude, _) in enumerate(kernel.parts))
    titles = None if kernel.titles is None else rounded_letters(kernel.titles).matrix
    return replace(
        knowledge,
        beliefs=replace(knowledge.beliefs, item_mean=values["item_mean"], item_covariance=values["item_covariance"]),
        design=replace(
            knowledge.design,
            raters=values["raters"][:, 0],
            slopes=slopes,
            covariates=slopes * _covariate_factors(knowledge),
        ),
        kernel=ItemKernel(parts, titles, kernel.title_amplitude),
    )


def _of_items(knowledge: SharedKnowledge) -> dict[str, Rounded]:
    beliefs, design, kernel = knowledge.beliefs, knowledge.design, knowledge.kernel
    assert kernel is not None
    arrays = {
        "item_mean": beliefs.item_mean,
        "item_covariance": beliefs.item_covariance,
        "raters": design.raters[:, None],
        "slopes": design.slopes,
    }
    parts = {f"part_{number}": coordinates for number, (_, coordinates) in enumerate(kernel.parts)}
    return {name: rounded(array) for name, array in {**arrays, **parts}.items()}


def _covariate_factors(knowledge: SharedKnowledge) -> Tensor:
    """The covariates are the slopes' features, flags scaled up; see hierfed.methods.hierarchical.design."""
    design = knowledge.design
    flags = (design.covariates - FLAG_COVARIATE_SCALE * design.slopes).abs().amax(0) == 0
    return torch.where(flags, FLAG_COVARIATE_SCALE, 1.0).double()
