"""The reasons why networks' local steps and parts that stay at nodes cannot be as settings ask."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierfed.settings import Settings


def refusal_of_rounds(settings: Settings) -> str:
    """The reason why the settings' local steps or kept parts cannot work; empty if they can."""
    return (
        _correction_refusal(settings)
        or _parts_refusal(settings)
        or _own_model_refusal(settings)
        or _experts_refusal(settings)
        or _deep_refusal(settings)
    )


def _correction_refusal(settings: Settings) -> str:
    """The reason why the settings' correction of local steps cannot work; empty if it can."""
    training, begins = settings.training, f"training.correction '{settings.training.correction}': "
    if training.correction != "none" and settings.privacy.privacy_unit != "none":
        return f"{begins}it was never tried under differential privacy: leave it at 'none'"
    if training.correction == "scaffold" and (training.optimizer != "sgd" or training.proximal):
        return (
            f"{begins}a node's control variate is the mean gradient of plain SGD steps: set training.optimizer to "
            "'sgd' and training.proximal to 0"
        )
    if training.correction == "dyn" and not training.proximal:
        return f"{begins}its strength alpha is training.proximal: set that above 0"
    return ""


def _parts_refusal(settings: Settings) -> str:
    training = settings.training
    if not training.turns:
        return "training.turns: nothing is trained: name a part, such as 'all'"
    if training.kept == "none" and training.turns == ("all",):
        return ""
    begins = f"training.kept '{training.kept}', turns {', '.join(training.turns)}: "
    if set(training.turns) == {training.kept}:
        return f"{begins}no shared part is ever trained: name another part in training.turns"
    if settings.privacy.privacy_unit != "none":
        return f"{begins}it was never tried under differential privacy: leave kept at 'none' and turns at 'all'"
    if training.correction != "none":
        return (
            f"{begins}correction '{training.correction}' is for a node that trains all in one turn: leave it at 'none'"
        )
    return ""


# The settings of training that each own model reads.
_READ: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "none": frozenset(),
        "ditto": frozenset({"own_strength", "own_rate"}),
        "apfl": frozenset({"own_strength"}),
        "pfedme": frozenset({"own_strength", "own_rate", "own_steps"}),
        "per_fedavg": frozenset({"own_rate"}),
        "fedala": frozenset({"own_rate", "own_steps"}),
    }
)


def _own_model_refusal(settings: Settings) -> str:
    training, usual, name = settings.training, type(settings.training)(), settings.training.own_model
    for unread in sorted({"own_strength", "own_rate", "own_steps"} - _READ[name]):
        if getattr(training, unread) != getattr(usual, unread):
            return f"training.{unread} has no effect with own_model '{name}': leave it out"
    begins = f"training.own_model '{name}': "
    if name == "none":
        return ""
    if name == "apfl" and training.own_strength > 1:
        return f"{begins}own_strength is the own model's share: set it from 0 to 1"
    if settings.privacy.privacy_unit != "none":
        return f"{begins}it was never tried under differential privacy: leave it at 'none'"
    for other in ("correction", "kept", "turns", "proximal"):
        if getattr(training, other) != getattr(usual, other):
            return f"{begins}it was never tried with training.{other}: leave one of the two out"
    return ""


# What deep networks and experts were never tried with: section and setting.
_NOT_DEEP = (
    ("training", "correction"),
    ("training", "kept"),
    ("training", "turns"),
    ("training", "own_model"),
    ("training", "proximal"),
    ("training", "device"),
    ("privacy", "privacy_unit"),
    ("federation", "mode"),
)


def _deep_refusal(settings: Settings) -> str:
    begins = "model: a network with residual blocks or vectors "
    return _form_refusal(settings) or _tried_refusal(settings, begins) if settings.model.deep else ""


def _experts_refusal(settings: Settings) -> str:
    model, usual = settings.model, type(settings.model)()
    if model.experts > 1:
        return _several_refusal(settings)
    if (model.gate, model.experts_per_node) != (usual.gate, usual.experts_per_node):
        return "model.gate, experts_per_node: there is one expert to choose from: set model.experts"
    return ""


def _several_refusal(settings: Settings) -> str:
    model = settings.model
    begins = f"model.experts {model.experts}: "
    if model.experts > settings.federation.nodes:
        return f"{begins}there are {settings.federation.nodes} nodes, and some experts would have none: take fewer"
    if model.experts_per_node > 1 and model.gate != "pool":
        return "model.experts_per_node: it is of gate 'pool': leave it out"
    if model.experts_per_node > model.experts:
        return f"{begins}a node cannot ask for {model.experts_per_node}: lower model.experts_per_node"
    reason = ""
    if model.deep:
        reason = "experts are networks without residual blocks and vectors: leave one of the two out"
    elif settings.federation.server_optimizer != "none":
        reason = "each is moved by its own mean: leave federation.server_optimizer at 'none'"
    elif settings.federation.rule not in ("sum", "exact_sum", "screen"):
        reason = "each is the mean of other nodes: leave federation.rule at 'sum'"
    elif settings.personalisation.user_level == "kriging":
        reason = "users' processes were never tried on mixtures: set personalisation.user_level to 'ridge_head'"
    return f"{begins}{reason}" if reason else _tried_refusal(settings, f"{begins}it ")


def _form_refusal(settings: Settings) -> str:
    """The reason why there is no network of this form; empty if there is."""
    model, sizes = settings.model, (settings.model.item_vector_size, settings.model.user_vector_size)
    if all(sizes) and sizes[0] != sizes[1]:
        return (
            f"model.item_vector_size {sizes[0]}, user_vector_size {sizes[1]}: they meet in a product: make them equal"
        )
    if model.depth and not model.hidden:
        return (
            f"model.depth {model.depth}: blocks are as wide as the first of model.hidden, which is empty: name a width"
        )
    if model.item_features != "use" and not any(sizes):
        return "model.item_features 'leave_out': the network would see nothing: add vectors, or use the features"
    if model.item_vector_size and model.output_bias != "train_mean":
        return (
            "model.item_vector_size: raters are counted in the round of the mean rating: leave model.output_bias at "
            "'train_mean'"
        )
    return ""


def _tried_refusal(settings: Settings, begins: str) -> str:
    """The reason why a deep network, or experts, were never trained so; empty if they were."""
    personal = settings.personalisation
    for section, name in _NOT_DEEP:
        usual = type(getattr(settings, section))()
        if getattr(getattr(settings, section), name) != getattr(usual, name):
            return f"{begins}was never tried with {section}.{name}: leave that out"
    if personal.validation or personal.node_level in ("bias", "ditto"):
        return (
            f"{begins}was never personalised by node_level '{personal.node_level}' with validation "
            f"{personal.validation:g}: choose 'none', 'head', 'head_first' or 'fine_tuning', and validation 0"
        )
    return ""
