"""The declaration of a method, made before any data are read.

It does not import torch, so that settings are checked fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from hierfed.errors import HierfedError
from hierfed.methods.messages import Model, Sums
from hierfed.results import MethodWords, PrivacyRecord

if TYPE_CHECKING:
    import torch

    from hierfed.data.catalogue import Catalogue
    from hierfed.data.federation import Node
    from hierfed.federated.contract import SharedModel
    from hierfed.federated.method import Method
    from hierfed.federated.stage import Stage
    from hierfed.private_randomness import PrivateStreams
    from hierfed.settings import Settings

ModuleMaker = Callable[[int], "torch.nn.Module"]
"""Makes a network for a number of features."""


class Protection(Protocol):
    """The differential privacy of a method's releases."""

    def record(self, rows: Sequence[int], rounds: int) -> PrivacyRecord:
        """The privacy record of the first rounds of nodes with these numbers of rows."""
        ...


@dataclass(frozen=True)
class Case:
    """The inputs that a method is made from.

    limits: the lowest and the highest possible rating.
    models: the finished shared models of earlier stages, by name.
    module: makes the network that replaces the settings' own.
    streams: source of noise; without it, nodes cannot contribute under differential privacy.
    noise_nodes: the least number of nodes that share the noise of a sum; None takes the settings' nodes that do not
    collude.
    """

    settings: Settings
    catalogue: Catalogue
    limits: tuple[float, float]
    models: Mapping[str, SharedModel] = field(default_factory=dict)
    module: ModuleMaker | None = None
    streams: PrivateStreams | None = None
    noise_nodes: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A method that is ready for its first round.

    features: the names of the item features that it uses.
    missing_features: the paper's features that the data lack.
    protection: the differential privacy of its releases; None without.
    """

    method: Method
    features: tuple[str, ...]
    missing_features: tuple[str, ...]
    protection: Protection | None = None

    def privacy(self, nodes: Sequence[Node], rounds: int) -> PrivacyRecord | None:
        """The privacy record of the first rounds of these nodes; None without differential privacy."""
        return None if self.protection is None else self.protection.record([len(node.train) for node in nodes], rounds)


class MethodKind:
    """The declaration of a method: its promises, refusals and names. A kind overrides the defaults that do not fit it.

    units: the units of differential privacy that it protects in one process; empty for none.
    deployed_units: the units that it protects on a real federation.
    sends: True if nodes send anything. A method that sends nothing has no rounds.
    takes_module: True if it trains a network that the caller may give.
    devices: the devices that its nodes can compute on.
    averaged: arrays that a rule may combine otherwise than by adding, each with the array of its weights: one of each
    node. If empty, sums are only added. averaged_rows: the same, with a weight for each row; no step changes these.
    takes_optimizer: True if a server optimizer moves its model.
    sums, models: the arrays that nodes send and receive on a real federation. Nothing else is sent.
    """

    units: frozenset[str] = frozenset()
    deployed_units: frozenset[str] = frozenset()
    sends: bool = True
    takes_module: bool = False
    devices: frozenset[str] = frozenset({"cpu"})
    averaged: Mapping[str, str] = MappingProxyType({})
    averaged_rows: Mapping[str, str] = MappingProxyType({})
    takes_optimizer: bool = False
    sums: tuple[Sums, ...] = ()
    models: tuple[Model, ...] = ()

    def rounds(self, settings: Settings) -> int:
        """The number of rounds that train the rating model; 0 if nothing is sent."""
        return settings.training.rounds if self.sends else 0

    def opening_rounds(self, settings: Settings) -> int:
        """The number of rounds before round 1. Their sums depend on no model."""
        return 0

    def needs_times(self, settings: Settings) -> bool:
        """True if users' own models use the times of ratings."""
        return False

    def earlier_stages(self, case: Case) -> list[Stage]:
        """The training stages before the one of the rating model. `prepare` finds their models in its case."""
        return []

    def later_stages(self, case: Case) -> list[Stage]:
        """The training stages after the one of the rating model."""
        return []

    def refusal(self, settings: Settings) -> str:
        """The reason why the method cannot do as the settings say, and the remedy; empty if it can."""
        return ""

    def former_settings(self, settings: Settings, described: Mapping[str, Any]) -> Settings:
        """The settings with the hyperparameters of a model that the previous version saved.

        described: the description of the method in the model's header.
        Raises HierfedError for a method that it did not describe.
        """
        raise HierfedError("a model of the version before this one, which kept no users to serve: run the preset again")

    def words(self) -> MethodWords:
        """The names of its models in reports."""
        return MethodWords()

    def prepare(self, case: Case) -> Prepared:
        """Make the method. Its modules are loaded here and not before."""
        raise NotImplementedError(f"{type(self).__name__} lacks prepare(case), which makes the method")
