"""What all of a federation must agree on before its first round, and the methods that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from hierfed.data.catalogue import Catalogue
from hierfed.data.features import Features
from hierfed.deployment.signing import PublicKey
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.secure_round import Circle
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.factors import HierarchicalFactors
from hierfed.federated.local import LocalOnly
from hierfed.methods import Prepared, features_method, prepare
from hierfed.privacy.private_prior import PrivatePrior
from hierfed.privacy.secure_sum.setup import colluders
from hierfed.private_randomness import PrivateStreams
from hierfed.ranked import ranking_methods
from hierfed.results import PrivacyRecord
from hierfed.settings import PRIVATE_SETTINGS, Settings

FEATURES, RATING, EASE, IMPLICIT = "features", "rating", "ease", "implicit"

Deployed = FederatedAveraging | HierarchicalFactors | PrivatePrior


@dataclass(frozen=True)
class Plan:
    """Settings and catalogue. training: names this training, and no other.

    limits: the lowest and the highest rating that there can be. keys: of the nodes that add securely, by number, and
    threshold: how many of them a sum takes; none where the server sees single contributions. fitted: the finished model
    of stage FEATURES, None before, and where the method has no such stage.
    """

    training: str
    settings: Settings
    catalogue: Catalogue
    limits: tuple[float, float]
    keys: tuple[str, ...] = ()
    threshold: int = 0
    fitted: SharedModel | None = None

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
    def method(self) -> Deployed:
        """The method of ratings; raises SettingsError for one that sends nothing, HierfedError before its features are
        fitted."""
        return self._prepared(None)[0]

    def record(self, rounds: int) -> PrivacyRecord | None:
        """What so many rounds have released; None without differential privacy."""
        protected = self._prepared(None)[1].protected if self.private else None
        return None if protected is None else protected.record([], rounds)

    def _prepared(self, streams: PrivateStreams | None) -> tuple[Deployed, Prepared]:
        check_deployable(self.settings)
        # Of those that stay to the end of a sum, the colluding ones may have added no noise.
        sharers = None if self.circle is None else self.circle.threshold - self.circle.colluding
        features = self._features()
        prepared = prepare(self.settings, self.catalogue, self.limits, features, streams=streams, sharers=sharers)
        if isinstance(prepared.method, LocalOnly):
            raise AssertionError("a method that sends nothing is not deployable")
        return prepared.method, prepared

    def _features(self) -> Features | None:
        fitting = features_method(self.settings, self.catalogue)
        if fitting is None:
            return None
        if self.fitted is None:
            raise HierfedError("this training has not come to its network yet: its features are not fitted")
        try:
            return fitting.features(self.fitted)
        except (KeyError, ValueError, IndexError) as error:
            raise HierfedError(f"the features of this training are not those of its catalogue: {error}") from error

    def after(self, models: Mapping[str, SharedModel]) -> Plan:
        """The plan with the features that were fitted, once they are; models: of the stages that have begun."""
        fitted = models.get(FEATURES)
        return self if fitted is None or fitted.round < self.stages()[FEATURES] else replace(self, fitted=fitted)

    def stages(self) -> dict[str, int]:
        """The rounds of each training, in order: features come before a network, ranking after the hierarchical
        model."""
        check_deployable(self.settings)
        rounds = {} if features_method(self.settings, self.catalogue) is None else {FEATURES: 1}
        rounds[RATING] = self.settings.training.rounds
        if self.settings.method == "hierarchical" and self.settings.ranking.rank_items:
            rounds |= {EASE: 1, IMPLICIT: self.settings.ranking.implicit_rounds}
        return rounds

    def rounds_left(self, models: Mapping[str, SharedModel]) -> int:
        """How many rounds are to come in all stages, opening rounds included; models: of the stages that have begun."""
        return sum(
            rounds - (models[stage].round if stage in models else -self._opening(stage))
            for stage, rounds in self.stages().items()
        )

    def _opening(self, stage: str) -> int:
        """How many rounds a stage has before its round 1."""
        if stage != RATING:
            return 1
        if self.settings.method == "averaging":
            return int(self.settings.model.output_bias == "train_mean")
        return -self.method.start().round

    def stage(self, name: str, rating: SharedModel | None, streams: PrivateStreams | None = None) -> SumMethod:
        """The method of a stage; rating: the finished model of ratings, which the ranking models build upon. streams: a
        node's own, for its noise."""
        fitting = features_method(self.settings, self.catalogue)
        if name == FEATURES and fitting is not None:
            return fitting
        if name == RATING:
            return self.method if streams is None else self._prepared(streams)[0]
        if name not in (EASE, IMPLICIT) or name not in self.stages() or rating is None:
            raise HierfedError(f"this training has no stage '{name}', or it has not come to it yet")
        if not isinstance(self.method, HierarchicalFactors):
            raise AssertionError("ranking models come after the hierarchical one")
        methods = ranking_methods(self.settings, self.method.content, rating.arrays["raters"])
        return methods.ease if name == EASE else methods.implicit

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
        arrays = {
            f"{stage}.{name}": array for stage, shared in finished.items() for name, array in shared.arrays.items()
        }
        return Request("setup", facts, arrays)


def check_deployable(settings: Settings) -> None:
    """Raise SettingsError for settings that no federation can train."""
    if settings.federation.participation != 1:
        raise SettingsError(
            "federation.participation: a real federation asks every node in every round, and goes on with those that "
            "answer (--quorum): leave it at 1"
        )
    if settings.method == "local":
        raise SettingsError(
            "method 'local' sends nothing, so it needs no server: `hierfed run local` on each node's data"
        )
    if settings.privacy.privacy_unit not in ("none", "user"):
        raise SettingsError(
            f"privacy.privacy_unit '{settings.privacy.privacy_unit}': networks are protected in one process alone, by "
            "`hierfed run`; a federation has secure sums, and preset private"
        )


def read_plan(facts: Mapping[str, Fact], catalogue: Catalogue) -> Plan:
    """The plan that a setup request tells of."""
    low, high = json.loads(str(facts["limits"]))
    settings = Settings.model_validate_json(str(facts["settings"]))
    keys, threshold = tuple(json.loads(str(facts["keys"]))), int(facts["threshold"])
    return Plan(str(facts["training"]), settings, catalogue, (low, high), keys, threshold)


def read_finished(request: Request) -> dict[str, SharedModel]:
    """The finished models that a setup request tells of, by stage."""
    models = {}
    for stage, number in json.loads(str(request.facts["finished"])).items():
        prefix = f"{stage}."
        arrays = {name.removeprefix(prefix): each for name, each in request.arrays.items() if name.startswith(prefix)}
        models[stage] = SharedModel(arrays, number)
    return models
