"""The shapes of rounds that fit together, and the reasons against those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.federated.tables import RULES, STEPS

if TYPE_CHECKING:
    from hierfed.methods.kind import MethodKind
    from hierfed.settings import Settings

_ONLY = {
    "tree": ("fan_out",),
    "gossip": ("graph", "exchanges", "lost_messages"),
    "async": ("answers", "speed", "staleness"),
}
"""Settings that act in one shape alone."""


def shape_refusal(settings: Settings, kind: MethodKind) -> str:
    """The reason why the settings' rounds cannot have this shape, and the remedy; empty if they can."""
    federation = settings.federation
    usual = type(federation)()
    for shape, names in _ONLY.items():
        for name in names:
            if shape not in (federation.topology, federation.mode) and getattr(federation, name) != getattr(
                usual, name
            ):
                return f"federation.{name} has no effect without '{shape}': leave it out"
    for name, checks in (("mode", _AGAINST_MODES), ("topology", _AGAINST_TOPOLOGIES)):
        value = getattr(federation, name)
        if value in checks:
            reason = next((reason for wrong, reason in checks[value](settings, kind) if wrong), "")
            if reason:
                return f"federation.{name} '{value}': {reason}"
    return ""


def _against_async(settings: Settings, kind: MethodKind) -> list[tuple[bool, str]]:
    federation, privacy, correction = settings.federation, settings.privacy, settings.training.correction
    words = [name for name in federation.steps if STEPS[name].bits]
    return [
        (not kind.sends, f"method '{settings.method}' sends nothing: leave it at 'sync'"),
        (
            federation.topology != "star",
            f"in topology '{federation.topology}' nobody has the last sums of single nodes: leave one of the two out",
        ),
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
            not RULES[federation.rule].adds,
            f"rule '{federation.rule}' compares answers to one model, and these answer several: leave it at 'sum'",
        ),
        (
            federation.rule == "exact_sum",
            "late answers are added as they are, in order: leave federation.rule at 'sum'",
        ),
        (federation.participation != 1, "whoever answers first takes part: leave federation.participation at 1"),
        (
            bool(words),
            f"step '{', '.join(words)}' rounds sums that answer one model, and these answer several: leave it out",
        ),
        (
            settings.training.own_model != "none",
            f"training.own_model '{settings.training.own_model}' was never tried with late answers: leave it at 'none'",
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


def _against_tree(settings: Settings, kind: MethodKind) -> list[tuple[bool, str]]:
    federation, privacy = settings.federation, settings.privacy
    edges = -(-federation.nodes // federation.fan_out)
    return [
        (not kind.sends, f"method '{settings.method}' sends nothing: leave it at 'star'"),
        (
            privacy.privacy_unit in ("node", "user"),
            "noise is measured out for the sum of all nodes, and an edge learns that of its own: leave it at 'star'",
        ),
        (
            not RULES[federation.rule].adds,
            f"rule '{federation.rule}' compares nodes, and the root sees sums of edges: set groups at a star",
        ),
        (
            privacy.secure_sums and federation.nodes // edges < 2,
            "an edge of one node would learn its contribution: take a larger federation.fan_out",
        ),
        (
            privacy.secure_sums and federation.participation != 1,
            "in edges of other nodes every round, the root could solve for one: leave participation at 1",
        ),
    ]


def _against_gossip(settings: Settings, kind: MethodKind) -> list[tuple[bool, str]]:
    federation, privacy = settings.federation, settings.privacy
    return [
        (not kind.sends, f"method '{settings.method}' sends nothing: leave it at 'star'"),
        (
            privacy.privacy_unit != "none",
            "noise is measured out for sums, and a neighbour sees shares of single contributions: leave it at 'star'",
        ),
        (
            privacy.secure_sums,
            "masked sums cannot be halved, and nobody would unmask them: leave one of the two out",
        ),
        (
            not RULES[federation.rule].adds,
            f"rule '{federation.rule}' compares nodes, and a peer sees mixtures of them: leave it at 'sum'",
        ),
        (federation.rule == "exact_sum", "peers halve sums, which rounds them: leave federation.rule at 'sum'"),
        (
            bool(federation.steps),
            f"step '{', '.join(federation.steps)}' sends what cannot be halved: leave it out",
        ),
        (federation.participation != 1, "a peer that is away has no model to go on with: leave participation at 1"),
        (privacy.ledger == "keep", "there is no server whose record it could be: leave privacy.ledger at 'auto'"),
    ]


_AGAINST_MODES = {"async": _against_async}
_AGAINST_TOPOLOGIES = {"tree": _against_tree, "gossip": _against_gossip}
