"""A method as it is declared before any data are read; free of torch, so that settings are checked at once."""

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
"""Makes a network from the number of features."""


class Protection(Protocol):
    """The differential privacy of a method's releases."""

    def record(self, rows: Sequence[int], rounds: int) -> PrivacyRecord:
        """What the first rounds of nodes with these numbers of rows have released."""
        ...


@dataclass(frozen=True)
class Case:
    """All that a method is made from.

    limits: the lowest and the highest rating that there is.
    models: the finished shared models of the stages before, by name.
    module: makes the network in place of the settings' own.
    streams: where noise comes from; without them nodes cannot contribute under differential privacy.
    noise_nodes: how many nodes at least share the noise of a sum; None for the settings' nodes that do not collude.
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
    missing_features: those of the paper's features that the data lack.
    protection: what it may release; None without differential privacy.
    """

    method: Method
    features: tuple[str, ...]
    missing_features: tuple[str, ...]
    protection: Protection | None = None

    def privacy(self, nodes: Sequence[Node], rounds: int) -> PrivacyRecord | None:
        """What the first rounds of these nodes have released; None without differential privacy."""
        return None if self.protection is None else self.protection.record([len(node.train) for node in nodes], rounds)


class MethodKind:
    """What a method promises, refuses and is called; a kind overrides what differs from these defaults.

    units: the units of differential privacy that it can protect in one process; none where it is not told.
    deployed_units: those that it can protect on a real federation.
    sends: whether nodes send anything; a method that sends nothing has no rounds.
    takes_module: whether it trains a network that the caller may give.
    devices: where its nodes can compute.
    averaged: arrays that a rule may combine otherwise than by adding, each with the array that weighs it; without any,
    sums are added and nothing else.
    takes_optimizer: whether a server optimizer moves its model.
    sums, models: what nodes send and receive on a real federation; what is not declared is not sent.
    serves_users: whether its users' models can be made again from their own files, to recommend.
    """

    units: frozenset[str] = frozenset()
    deployed_units: frozenset[str] = frozenset()
    sends: bool = True
    takes_module: bool = False
    devices: frozenset[str] = frozenset({"cpu"})
    averaged: Mapping[str, str] = MappingProxyType({})
    takes_optimizer: bool = False
    serves_users: bool = False
    sums: tuple[Sums, ...] = ()
    models: tuple[Model, ...] = ()

    def rounds(self, settings: Settings) -> int:
        """How many rounds the training of the model of ratings has; 0 where nothing is sent."""
        return settings.training.rounds if self.sends else 0

    def opening_rounds(self, settings: Settings) -> int:
        """How many rounds come before its round 1, and gather sums that no model depends on."""
        return 0

    def earlier_stages(self, case: Case) -> list[Stage]:
        """The trainings before the one of the model of ratings, whose models `prepare` then finds in its case."""
        return []

    def later_stages(self, case: Case) -> list[Stage]:
        """The trainings after the one of the model of ratings."""
        return []

    def refusal(self, settings: Settings) -> str:
        """A reason why the settings would be words only, and what to do; empty where they hold."""
        return ""

    def former_settings(self, settings: Settings, described: Mapping[str, Any]) -> Settings:
        """The settings with the hyperparameters of a model that the version before this one has saved.

        described: what its header says of the method. Raises HierfedError for a method that it did not describe.
        """
        raise HierfedError("a model of the version before this one, which kept no users to serve: run the preset again")

    def words(self) -> MethodWords:
        """What its models are called."""
        return MethodWords()

    def prepare(self, case: Case) -> Prepared:
        """Make the method. Its modules are loaded here and not before."""
        raise NotImplementedError
