"""What the settings' protections are made of, in a simulation in one process."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.errors import SettingsError
from hierfed.federated.recording import Recorder, Spent
from hierfed.federated.summation import Summation, sum_openly
from hierfed.sections import PrivacySettings
from hierfed.settings import Settings

# The keys of a simulation are all in one hand: signatures of more nodes cost more than rounds, and prove nothing.
_MOST_WITNESSES = 256


def summation_of(privacy: PrivacySettings) -> Summation:
    """How contributions are added; raises SettingsError for secure sums without the package that they need."""
    if not privacy.secure_sums:
        return sum_openly
    if not _installed():
        raise SettingsError("privacy.secure_sums needs a package more: pip install 'hierfed[privacy]'")
    from hierfed.privacy.secure_sum.simulation import SecureSummation  # noqa: PLC0415 - it is an extra

    return SecureSummation(privacy.colluding)


def keeps_ledger(privacy: PrivacySettings, nodes: int) -> bool:
    """Whether a simulation of so many nodes keeps a ledger; raises SettingsError for one without its package."""
    if privacy.ledger == "keep" and not _installed():
        raise SettingsError("privacy.ledger = 'keep' needs a package more: pip install 'hierfed[privacy]'")
    return privacy.ledger == "keep" or (privacy.ledger == "auto" and nodes <= _MOST_WITNESSES and _installed())


def recorder_of(settings: Settings, catalogue: Catalogue, nodes: Sequence[Node], spent: Spent) -> Recorder | None:
    """Who keeps the ledger of a simulation, if there is to be one; spent: see Spent."""
    if not keeps_ledger(settings.privacy, len(nodes)):
        return None
    from hierfed.ledger.simulation import SimulatedLedger  # noqa: PLC0415 - it is an extra

    return SimulatedLedger(settings.digest(), catalogue.digest(), {node.number: node.name for node in nodes}, spent)


def _installed() -> bool:
    return importlib.util.find_spec("cryptography") is not None
