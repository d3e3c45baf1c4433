"""The signed record of a training in one process: the choice to keep one, and its base class."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence

from hierfed.data.catalogue import Catalogue
from hierfed.data.federation import Node
from hierfed.errors import SettingsError
from hierfed.federated.contract import SharedModel
from hierfed.observer import Observer
from hierfed.privacy.settings import PrivacySettings
from hierfed.results import PrivacyRecord
from hierfed.settings import Settings

# One process holds all keys of a simulation: signatures of more nodes cost more than rounds, and prove nothing.
_MOST_WITNESSES = 256

Spent = Callable[[int], PrivacyRecord | None]
"""The privacy cost after a number of rounds; None without differential privacy."""


class LedgerRecord(Observer):
    """An observer that records every sum, of every stage of a training."""

    def continued(self, model: str, forgotten: int) -> None:
        """Record that the training goes on from the model with this digest, after so many users left."""
        raise NotImplementedError

    def sealed(self, models: Mapping[str, SharedModel], files: Mapping[str, str]) -> bytes:
        """The whole record, with each stage's final model and the digests of the run's files."""
        raise NotImplementedError


def keeps_ledger(privacy: PrivacySettings, nodes: int) -> bool:
    """True if a simulation of this many nodes keeps a ledger; raises SettingsError without its package."""
    installed = importlib.util.find_spec("cryptography") is not None
    if privacy.ledger == "keep" and not installed:
        raise SettingsError("privacy.ledger = 'keep' needs a package more: pip install 'hierfed[privacy]'")
    return privacy.ledger == "keep" or (privacy.ledger == "auto" and nodes <= _MOST_WITNESSES and installed)


def ledger_of(settings: Settings, catalogue: Catalogue, nodes: Sequence[Node], spent: Spent) -> LedgerRecord | None:
    """The ledger of a simulation; None if the settings keep none, or there is no server. spent: see Spent."""
    if settings.federation.topology == "gossip" or not keeps_ledger(settings.privacy, len(nodes)):
        return None
    from hierfed.ledger.simulation import SimulatedLedger  # noqa: PLC0415 - it is an extra

    return SimulatedLedger(settings.digest(), catalogue.digest(), {node.number: node.name for node in nodes}, spent)
