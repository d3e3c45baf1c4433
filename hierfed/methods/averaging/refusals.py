"""The reasons why networks' local steps and parts that stay at nodes cannot be as settings ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierfed.settings import Settings


def refusal_of_rounds(settings: Settings) -> str:
    """The reason why the settings' local steps or kept parts cannot work; empty if they can."""
    return _correction_refusal(settings) or _parts_refusal(settings)


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
