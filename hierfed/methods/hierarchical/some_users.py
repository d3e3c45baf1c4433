"""Models of some of a node's users, where others are not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.users import Posterior
from hierfed.models.kriging import Observations


def of_users(model: PersonalFactors, wanted: Tensor) -> PersonalFactors:
    """The model with only those of its users who are wanted.

    wanted: their numbers, of which some may be no users of the model.
    """
    chosen = torch.isin(model.users, wanted)
    rows = torch.repeat_interleave(chosen, model.own.counts)

    def some(values: dict[str, Any], which: Tensor) -> dict[str, Any]:
        return {name: None if value is None else value[which] for name, value in values.items()}

    per_rating = {name: value for name, value in vars(model.own).items() if name != "counts"}
    return replace(
        model,
        users=model.users[chosen],
        posterior=Posterior(**some(vars(model.posterior), chosen)),
        precision=model.precision[chosen],
        prior_mean=model.prior_mean[chosen],
        own=Observations(counts=model.own.counts[chosen], **some(per_rating, rows)),
    )


def joined(models: Sequence[PersonalFactors]) -> PersonalFactors:
    """The users of several models of one node as one model, in their order."""
    first, *others = models
    if not others:
        return first

    def together(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        columns = {name: [each[name] for each in records] for name in records[0]}
        return {name: None if parts[0] is None else torch.cat(parts) for name, parts in columns.items()}

    per_user = [{name: getattr(each, name) for name in ("users", "precision", "prior_mean")} for each in models]
    return replace(
        first,
        posterior=Posterior(**together([vars(each.posterior) for each in models])),
        own=Observations(**together([vars(each.own) for each in models])),
        **together(per_user),
    )
