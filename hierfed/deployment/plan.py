"""What all of a federation must agree on before its first round, and the methods that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from hierfed.data.catalogue import Catalogue
from hierfed.data.features import Tallies
from hierfed.deployment.signing import PublicKey
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.secure_round import Circle
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.method import Method, Stage
from hierfed.federated.tallies import read_tallies, sent_tallies
from hierfed.methods import Case, Prepared, kind_of, prepare
from hierfed.privacy.secure_sum.setup import colluders
from hierfed.private_randomness import PrivateStreams
from hierfed.results import PrivacyRecord
from hierfed.settings import PRIVATE_SETTINGS, Settings


@dataclass(frozen=True)
class Plan:
    """Settings, catalogue, and what was added up of the nodes' rows. training: names this training, and no other.

    limits: the lowest and the highest rating that there can be. tallies: of all nodes' rows to learn from. keys: of the
    nodes that add securely, by number, and threshold: how many of them a sum takes; none where the server sees single
    contributions.
    """

    training: str
    settings: Settings
    catalogue: Catalogue
    limits: tuple[float, float]
    tallies: Tallies
    keys: tuple[str, ...] = ()
    threshold: int = 0

    @cached_property
    def circle(self) -> Circle | None:
        """Who adds securely, if anyone."""
        if not self.keys:
            return None
        colluding = colluders(len(self.keys), self.settings.privacy.colluding)
        return Circle({number: PublicKey(key) for number, key in enumerate(self.keys)}, self.threshold, colluding)

    @property
    def private(self) -> bool:
        """Whether there is differential privacy, under which nodes tell nothing but releases with noise."""
        return self.settings.privacy.privacy_unit != "none"

    @cached_property
    def method(self) -> Method:
        """The method of ratings; raises SettingsError for one that no federation can train."""
        return self._prepared(None).method

    def record(self, rounds: int) -> PrivacyRecord | None:
        """What so many rounds have released; None without differential privacy."""
        return self._prepared(None).privacy([], rounds)

    def _prepared(self, streams: PrivateStreams | None) -> Prepared:
        check_deployable(self.settings)
        # Of those that stay to the end of a sum, the colluding ones may have added no noise.
        sharers = None if self.circle is None else self.circle.threshold - self.circle.colluding
        case = Case(self.settings, self.catalogue, self.limits, self.tallies, streams=streams, sharers=sharers)
        return prepare(case)

    def stages(self) -> list[Stage]:
        """Every training, in order."""
        return self.method.stages(self.settings)

    def rounds_left(self, models: Mapping[str, SharedModel]) -> int:
        """How many rounds are to come in all stages, opening rounds included; models: of the stages that have begun."""
        done = {
            stage.name: models[stage.name].round if stage.name in models else stage.before for stage in self.stages()
        }
        return sum(stage.rounds - done[stage.name] for stage in self.stages())

    def trainer(
        self, name: str, finished: Mapping[str, SharedModel], streams: PrivateStreams | None = None
    ) -> SumMethod:
        """The method that a stage trains.

        finished: the models of the stages before. streams: a node's own, for its noise.
        Raises HierfedError for a stage that the training does not have, or has not come to.
        """
        stages = self.stages() if streams is None else self._prepared(streams).method.stages(self.settings)
        for place, stage in enumerate(stages):
            if stage.name == name and all(earlier.name in finished for earlier in stages[:place]):
                return stage.build(finished)
        raise HierfedError(f"this training has no stage '{name}', or it has not come to it yet")

    def request(self, number: int, finished: Mapping[str, SharedModel]) -> Request:
        """All of it, but for the catalogue, which nodes have seen already; number: the node's.

        finished: the models of the stages that are over, which a node that comes later has missed.
        """
        facts: dict[str, Fact] = {
            "training": self.training,
            "settings": self.settings.model_dump_json(exclude=PRIVATE_SETTINGS),
            "limits": json.dumps(self.limits),
            "keys": json.dumps(self.keys),
            "threshold": self.threshold,
            "number": number,
            "finished": json.dumps({stage: shared.round for stage, shared in finished.items()}),
        }
        arrays = dict(sent_tallies(self.tallies).arrays)
        for stage, shared in finished.items():
            arrays |= {f"{stage}.{name}": array for name, array in shared.arrays.items()}
        return Request("setup", facts, arrays)


def check_deployable(settings: Settings) -> None:
    """Raise SettingsError for settings that no federation can train."""
    if settings.federation.participation != 1:
        raise SettingsError(
            "federation.participation: a real federation asks every node in every round, and goes on with those that "
            "answer (--quorum): leave it at 1"
        )
    kind, unit = kind_of(settings), settings.privacy.privacy_unit
    if not kind.sends:
        raise SettingsError(
            f"method '{settings.method}' sends nothing, so it needs no server: `hierfed run {settings.method}` on each "
            "node's data"
        )
    if unit != "none" and unit not in kind.deployed_units:
        raise SettingsError(
            f"privacy.privacy_unit '{unit}': networks are protected in one process alone, by `hierfed run`; a "
            "federation has secure sums, and preset private"
        )


def read_plan(facts: Mapping[str, Fact], arrays: Mapping[str, Tensor], catalogue: Catalogue) -> Plan:
    """The plan that a setup request tells of."""
    low, high = json.loads(str(facts["limits"]))
    settings = Settings.model_validate_json(str(facts["settings"]))
    keys, threshold = tuple(json.loads(str(facts["keys"]))), int(facts["threshold"])
    return Plan(str(facts["training"]), settings, catalogue, (low, high), read_tallies(arrays), keys, threshold)


def read_finished(request: Request) -> dict[str, SharedModel]:
    """The finished models that a setup request tells of, by stage."""
    models = {}
    for stage, number in json.loads(str(request.facts["finished"])).items():
        prefix = f"{stage}."
        arrays = {name.removeprefix(prefix): each for name, each in request.arrays.items() if name.startswith(prefix)}
        models[stage] = SharedModel(arrays, number)
    return models
