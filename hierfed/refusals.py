"""Settings that would be words only, above all of differential privacy: refused before any data are read, with the
reason."""

from __future__ import annotations

from hierfed.sections import FederationSettings, ModelSettings, PrivacySettings, TrainingSettings

BUDGET = ("epsilon", "delta", "clip_norm", "accountant")
PRIOR_ROUNDS = 3


def privacy_refusal(
    method: str, privacy: PrivacySettings, model: ModelSettings, federation: FederationSettings, rounds: int
) -> str:
    """Why the privacy would not hold with these settings, and what to do; empty where it would."""
    if privacy.secure_sums and (method == "local" or federation.nodes < 2):
        what = "method 'local' sends nothing" if method == "local" else "a sum over one node is its own contribution"
        return f"privacy.secure_sums: {what}: leave it out, or take nodes whose sums there are"
    if federation.participation != 1 and privacy.privacy_unit != "none":
        return (
            "federation.participation: noise is measured out for all nodes in every round, and only some of them would "
            "add too little or too much: leave it at 1"
        )
    if method == "private_prior":
        return _of_private_prior(privacy, federation, rounds)
    if privacy.privacy_unit == "none":
        return _without_effect(privacy)
    reason = _of_averaging(privacy, model) if method == "averaging" else _of_other_methods(method)
    return f"privacy.privacy_unit '{privacy.privacy_unit}': {reason}" if reason else ""


def device_refusal(method: str, training: TrainingSettings, privacy: PrivacySettings) -> str:
    """Why nothing would be computed on the device, and what to do; empty where something would."""
    if training.device == "cpu":
        return ""
    if method not in ("averaging", "hierarchical"):
        reason = f"method '{method}' computes on the CPU"
    elif privacy.privacy_unit != "none":
        reason = "under differential privacy nodes compute on the CPU"
    else:
        return ""
    return f"training.device '{training.device}': {reason}: leave it at 'cpu'"


def _without_effect(privacy: PrivacySettings) -> str:
    usual = PrivacySettings()
    for name in BUDGET:
        if getattr(privacy, name) != getattr(usual, name):
            return f"privacy.{name} has no effect with privacy_unit 'none': set privacy_unit too, or leave it out"
    return ""


def _of_private_prior(privacy: PrivacySettings, federation: FederationSettings, rounds: int) -> str:
    if privacy.privacy_unit != "user":
        return "privacy.privacy_unit: method 'private_prior' hides whole users: set it to 'user'"
    if not privacy.secure_sums:
        return (
            "privacy.secure_sums: each node adds a share of the noise, which hides a user in the sum alone, and the "
            "server would see the node's own: set it to true"
        )
    if federation.partition == "rows":
        return (
            "federation.partition 'rows' puts a user's ratings on several nodes, each of which would spend the user's "
            "budget: choose another partition"
        )
    if privacy.clip_norm != PrivacySettings().clip_norm:
        return "privacy.clip_norm has no effect with method 'private_prior', whose releases have norms of their own"
    if rounds != PRIOR_ROUNDS:
        return f"training.rounds: method 'private_prior' makes {PRIOR_ROUNDS} releases, one a round: leave it at that"
    return ""


def _of_other_methods(method: str) -> str:
    if method == "local":
        return "method 'local' sends nothing, so there is nothing to add noise to: leave it at 'none'"
    if method == "hierarchical":
        return "the sums of method 'hierarchical' are not clipped, so no noise hides anyone in them: use preset private"
    return ""


def _of_averaging(privacy: PrivacySettings, model: ModelSettings) -> str:
    if privacy.privacy_unit == "user":
        return (
            "a node's change counts by its rows and is clipped for no user: use unit 'example' or 'node', or preset "
            "private"
        )
    if model.output_bias == "train_mean":
        return "output_bias 'train_mean' sends the sum of each node's ratings as it is: set output_bias to 'random'"
    if privacy.privacy_unit == "example" and model.dropout:
        return (
            "dropout draws its masks by a row's place in the batch, so that one row more changes those of others: set "
            "dropout to 0"
        )
    if privacy.privacy_unit == "node" and not privacy.secure_sums:
        return (
            "each node adds a share of the noise, which hides it in the sum alone, and the server would see the node's "
            "own: set secure_sums to true"
        )
    return ""
