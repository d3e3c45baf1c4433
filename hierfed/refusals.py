"""Settings under which differential privacy would be a word only: refused before any data are read, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.sections import PrivacySettings

if TYPE_CHECKING:
    from hierfed.settings import Settings

BUDGET = ("epsilon", "delta", "clip_norm")


def privacy_refusal(settings: Settings) -> str:
    """Why the settings' privacy would not hold, and what to do about it; empty where nothing stands against it."""
    unit = settings.privacy.privacy_unit
    if unit == "none":
        return _without_effect(settings.privacy)
    reason = _of_method(settings) or _of_networks(settings)
    return f"privacy.privacy_unit '{unit}': {reason}" if reason else ""


def _without_effect(privacy: PrivacySettings) -> str:
    usual = PrivacySettings()
    for name in BUDGET:
        if getattr(privacy, name) != getattr(usual, name):
            return (
                f"privacy.{name} has no effect with privacy.privacy_unit 'none': set privacy_unit too, or leave it out"
            )
    return ""


def _of_method(settings: Settings) -> str:
    if settings.method == "local":
        return "method 'local' sends nothing, so there is nothing to add noise to: leave it at 'none'"
    if settings.method == "hierarchical":
        return "the sums of method 'hierarchical' are not clipped, so no noise hides anyone in them: use preset private"
    if settings.method == "averaging" and settings.privacy.privacy_unit == "user":
        return (
            "a node's change counts by its rows and is clipped for no user: use unit 'example' or 'node', or preset "
            "private"
        )
    return ""


def _of_networks(settings: Settings) -> str:
    unit = settings.privacy.privacy_unit
    if settings.method != "averaging":
        return ""
    if settings.model.output_bias == "train_mean":
        return (
            "model.output_bias 'train_mean' sends the sum of each node's ratings as it is: set output_bias to 'random'"
        )
    if unit == "example" and settings.model.dropout:
        return (
            "model.dropout draws its masks by a row's place in the batch, so that one row more changes the others': "
            "set dropout to 0"
        )
    if unit == "node" and not settings.privacy.secure_sums:
        return (
            "each node adds a share of the noise, which hides it in the sum alone, and the server would see the node's "
            "own: set privacy.secure_sums to true"
        )
    return ""
