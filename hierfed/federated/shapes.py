"""The shapes of rounds that fit together, and the reasons against those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.federated.tables import STEPS

if TYPE_CHECKING:
    from hierfed.methods.kind import MethodKind
    from hierfed.settings import Settings

_ONLY = {"async": ("answers", "speed", "staleness")}
"""Settings that act in one shape alone."""


def shape_refusal(settings: Settings, kind: MethodKind) -> str:
    """The reason why the settings' rounds cannot have this shape, and the remedy; empty if they can."""
    federation = settings.federation
    usual = type(federation)()
    for shape, names in _ONLY.items():
        for name in names:
            if shape != federation.mode and getattr(federation, name) != getattr(usual, name):
                return f"federation.{name} has no effect without '{shape}': leave it out"
    if federation.mode == "async":
        reason = _first(_against_async(settings, kind))
        return reason and f"federation.mode 'async': {reason}"
    return ""


def _first(checks: list[tuple[bool, str]]) -> str:
    return next((reason for wrong, reason in checks if wrong), "")


def _against_async(settings: Settings, kind: MethodKind) -> list[tuple[bool, str]]:
    federation, privacy, correction = settings.federation, settings.privacy, settings.training.correction
    words = [name for name in federation.steps if STEPS[name].bits]
    return [
        (not kind.sends, f"method '{settings.method}' sends nothing: leave it at 'sync'"),
        (
            federation.answers > federation.nodes,
            f"{federation.nodes} nodes never give {federation.answers} answers: lower federation.answers",
        ),
        (
            privacy.privacy_unit != "none",
            "noise is measured out for rounds that every node answers once: leave it at 'sync'",
        ),
        (
            privacy.secure_sums,
            "the server replaces or weighs single answers, which secure sums hide: leave one of the two out",
        ),
        (
            federation.rule != type(federation)().rule,
            f"rule '{federation.rule}' compares answers to one model, and these answer several: leave it at 'sum'",
        ),
        (federation.participation != 1, "whoever answers first takes part: leave federation.participation at 1"),
        (
            bool(words),
            f"step '{', '.join(words)}' rounds sums that answer one model, and these answer several: leave it out",
        ),
        (
            settings.training.kept != "none",
            f"training.kept '{settings.training.kept}': what a node keeps was never tried with late answers: "
            "leave it at 'none'",
        ),
        (
            correction != "none",
            f"training.correction '{correction}' is for rounds that answer one model, and these answer several: "
            "leave it at 'none'",
        ),
    ]
