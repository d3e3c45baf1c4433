"""Every method of ratings, each in a package of its own, with one line in METHODS. This file does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hierfed.errors import SettingsError
from hierfed.federated.stage import RATING, Stage
from hierfed.lookup import look_up
from hierfed.methods.averaging import Averaging
from hierfed.methods.hierarchical import Hierarchical
from hierfed.methods.item_biases import ItemBiasesKind
from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.methods.local import Local
from hierfed.methods.private_prior import PrivatePriorKind

if TYPE_CHECKING:
    from hierfed.settings import Settings

USUAL = "averaging"
"""The default method."""

__all__ = [
    "METHODS",
    "USUAL",
    "Case",
    "MethodKind",
    "Prepared",
    "earlier_stages",
    "kind_of",
    "prepare",
    "stages_from_rating",
    "stages_of",
]

METHODS: Mapping[str, MethodKind] = {
    "averaging": Averaging(),
    "item_biases": ItemBiasesKind(),
    "hierarchical": Hierarchical(),
    "local": Local(),
    "private_prior": PrivatePriorKind(),
}
"""The methods by their names in the settings."""


def kind_of(settings: Settings) -> MethodKind:
    """The kind of the settings' method, or the caller's own. Raises SettingsError for an unknown method."""
    return settings.own_method or look_up(METHODS, settings.method, "method")


def needs_times(settings: Settings) -> bool:
    """True if users' own models use the times of ratings."""
    return kind_of(settings).needs_times(settings)


def stages_of(case: Case) -> list[Stage]:
    """All training stages of a run, in order."""
    return [*earlier_stages(case), *stages_from_rating(case)]


def earlier_stages(case: Case) -> list[Stage]:
    """The training stages before the one of the rating model."""
    return kind_of(case.settings).earlier_stages(case)


def stages_from_rating(case: Case) -> list[Stage]:
    """The training stage of the rating model, and the stages after it.

    case: holds the models of the stages before.
    Raises SettingsError where what was seen, without ratings, teaches the method nothing.
    """
    kind, settings = kind_of(case.settings), case.settings
    later = kind.later_stages(case)
    if settings.data.implicit and not later:
        raise SettingsError(
            f"data.implicit: method '{settings.method}' makes its lists by expected ratings, and these data hold none: "
            "take preset hierarchical, with ranking.rank_items"
        )
    rating = Stage(
        RATING,
        kind.rounds(settings),
        lambda models: prepare(replace(case, models={**case.models, **models})).method,
        -kind.opening_rounds(settings),
    )
    return [rating, *later]


def prepare(case: Case) -> Prepared:
    """The settings' method, ready for its first round.

    Raises SettingsError for an unknown method, and for a module that the method does not train.
    """
    kind = kind_of(case.settings)
    if case.module is not None and not kind.takes_module:
        takers = " or ".join(f"'{name}'" for name, each in METHODS.items() if each.takes_module)
        raise SettingsError(f"method '{case.settings.method}' trains no network: a module goes with method {takers}")
    return kind.prepare(case)
