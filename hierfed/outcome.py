"""A finished run in memory: its result and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset
from hierfed.data.splits import Split
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method
from hierfed.federated.private import PersonalModel, PrivateState
from hierfed.federated.stage import RATING
from hierfed.ledger.record import LedgerRecord
from hierfed.results import Result
from hierfed.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """A finished run: its result, its shared models, and (on these nodes alone) the personal models.

    settings: as they were asked for.
    tuned: with the hyperparameters that the run chose.
    models: the finished shared models, by stage.
    federated_models: of the federated nodes' users, where these have models and are not the personalisation users.
    split: of the data set's rows.
    states: the federated nodes' private states after the last round.
    ledger: the signed record of the rounds, if one is kept.
    """

    settings: Settings
    tuned: Settings
    result: Result
    dataset: Dataset
    method: Method
    models: Mapping[str, SharedModel]
    personal_nodes: Sequence[Node]
    personal_models: Sequence[PersonalModel]
    federated_nodes: Sequence[Node]
    federated_models: Sequence[PersonalModel]
    split: Split
    states: Sequence[PrivateState | None]
    ledger: LedgerRecord | None = None

    @property
    def shared(self) -> SharedModel:
        """The shared model of ratings."""
        return self.models[RATING]

    def private_models(self) -> dict[str, PersonalModel]:
        """The personal models by the name of their node, and those of federated nodes where these are other nodes."""
        named = {
            f"node-{node.name}": model for node, model in zip(self.personal_nodes, self.personal_models, strict=True)
        }
        others = zip(self.federated_nodes, self.federated_models, strict=False)
        return named | {f"federated-{node.name}": model for node, model in others}
