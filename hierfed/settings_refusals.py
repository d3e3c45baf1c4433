"""The reasons against settings that would have no effect, or promise what they do not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.federated.settings import FederationSettings, TrainingSettings
from hierfed.federated.shapes import shape_refusal
from hierfed.federated.tables import RULES, STEPS
from hierfed.federated.words import most_nodes

if TYPE_CHECKING:
    from hierfed.methods.kind import MethodKind
    from hierfed.settings import Settings


def settings_refusal(settings: Settings, kind: MethodKind) -> str:
    """The first reason against the settings, and the remedy; empty if there is none.

    kind: of their method.
    """
    checks = (_privacy, _device, _local_steps, _halves, _groups, _rule, _steps, shape_refusal)
    return next((reason for check in checks if (reason := check(settings, kind))), "")


def _privacy(settings: Settings, kind: MethodKind) -> str:
    privacy, unit = settings.privacy, settings.privacy.privacy_unit
    if privacy.secure_sums and (not kind.sends or settings.federation.nodes < 2):
        what = (
            "a sum over one node is its own contribution" if kind.sends else f"method '{settings.method}' sends nothing"
        )
        return f"privacy.secure_sums: {what}: leave it out, or take nodes whose sums there are"
    if settings.federation.participation != 1 and unit != "none":
        return (
            "federation.participation: noise is measured out for all nodes in every round, and only some of them "
            "would add too little or too much: leave it at 1"
        )
    reason = kind.refusal(settings)
    if reason:
        return reason
    if unit == "none":
        return privacy.without_effect()
    if unit not in kind.units:
        hides = ", ".join(sorted(kind.units)) or "none"
        return (
            f"privacy.privacy_unit '{unit}': method '{settings.method}' does not protect this unit (it protects: "
            f"{hides}): leave it at 'none', or choose another method"
        )
    return ""


def _halves(settings: Settings, _: MethodKind) -> str:
    privacy = settings.privacy
    if privacy.halves and not privacy.secure_sums:
        return "privacy.halves: there is a search by halves under secure sums alone: set secure_sums, or leave it out"
    if privacy.halves and (settings.federation.groups or privacy.privacy_unit != "none"):
        return (
            "privacy.halves: halves are searched where all nodes add, without noise: leave federation.groups and "
            "privacy_unit out, or leave it out"
        )
    return ""


def _rule(settings: Settings, kind: MethodKind) -> str:
    federation = settings.federation
    usual = FederationSettings()
    if RULES[federation.rule].single and settings.privacy.secure_sums and not federation.groups:
        return (
            f"federation.rule '{federation.rule}': it must see single contributions, which secure sums hide: "
            f"leave it at '{usual.rule}', set federation.groups, or leave privacy.secure_sums out"
        )
    if not kind.averaged and not RULES[federation.rule].every_method:
        return (
            f"federation.rule '{federation.rule}': the sums of method '{settings.method}' can only be added: "
            f"leave it at '{usual.rule}'"
        )
    if federation.server_optimizer != usual.server_optimizer:
        if not kind.takes_optimizer:
            reason = f"method '{settings.method}' has no parameters that an optimizer moves"
        elif settings.privacy.privacy_unit != "none":
            reason = "it was never tried under differential privacy"
        else:
            return ""
        return f"federation.server_optimizer '{federation.server_optimizer}': {reason}: leave it at 'none'"
    return ""


def _steps(settings: Settings, kind: MethodKind) -> str:
    federation = settings.federation
    steps = [(name, STEPS[name]) for name in federation.steps]
    words = [step.bits for _, step in steps if step.bits]
    for place, (name, step) in enumerate(steps):
        if step.single and settings.privacy.secure_sums:
            reason = "it changes single contributions, which secure sums hide: leave one of the two out"
        elif step.single and place < len(steps) - 1:
            reason = "what it sends cannot be changed further: name it last"
        elif step.averaged and not kind.averaged:
            reason = (
                f"it is for parameters that are averaged, and the sums of method '{settings.method}' can only be "
                "added: take words8 or words16"
            )
        elif not step.bits:
            continue
        elif len(words) > 1:
            reason = "numbers are rounded to words once: name one of them"
        elif not RULES[federation.rule].adds:
            reason = (
                f"single words mean nothing before they are added, and rule '{federation.rule}' looks at single "
                "contributions: leave one of the two out"
            )
        elif federation.nodes > most_nodes(step.bits):
            reason = (
                f"the rounding of {federation.nodes:,} nodes is too much for words of {step.bits} bits, which bear "
                f"{most_nodes(step.bits):,}: take wider words"
            )
        elif settings.privacy.privacy_unit != "none":
            reason = "noise is measured out for numbers that are not rounded again: leave it out"
        else:
            continue
        return f"federation.steps '{name}': {reason}"
    return ""


def _local_steps(settings: Settings, kind: MethodKind) -> str:
    for name in ("optimizer", "correction", "kept", "turns", "own_model"):
        if getattr(settings.training, name) != getattr(TrainingSettings(), name) and not kind.takes_optimizer:
            return f"training.{name}: method '{settings.method}' takes no local steps: leave it out"
    return ""


def _groups(settings: Settings, _: MethodKind) -> str:
    reason = _groups_reason(settings)
    return reason and f"federation.groups: {reason}"


def _groups_reason(settings: Settings) -> str:
    federation, groups = settings.federation, settings.federation.groups
    if not groups:
        return ""
    if RULES[federation.rule].adds:
        return "a sum of sums is the sum: choose a federation.rule that resists lying nodes, or leave it at 0"
    if 2 * groups > federation.nodes:
        return f"{groups} groups of {federation.nodes} nodes, and a group of one is seen alone: take fewer groups"
    if federation.participation != 1:
        return "in groups of other nodes every round, the server could solve for one: leave participation at 1"
    if settings.privacy.privacy_unit != "none":
        return "noise is measured out for the sum of all nodes, not of a group: leave it at 0"
    return ""


def _device(settings: Settings, kind: MethodKind) -> str:
    device = settings.training.device
    if device == "cpu":
        return ""
    if device not in kind.devices:
        reason = f"method '{settings.method}' computes on the CPU"
    elif settings.privacy.privacy_unit != "none":
        reason = "under differential privacy nodes compute on the CPU"
    else:
        return ""
    return f"training.device '{device}': {reason}: leave it at 'cpu'"
