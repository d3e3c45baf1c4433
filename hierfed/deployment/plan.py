"""The terms that server and nodes agree on before the first round, and the methods that follow from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from hierfed.data.catalogue import Catalogue
from hierfed.deployment.signing import PublicKey
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.going_on import OPENING, GoingOn
from hierfed.engines.secure_round import SecureGroup
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.contract import SharedModel, SumMethod
from hierfed.federated.groups import groups_of
from hierfed.federated.halves import halvings
from hierfed.federated.method import Method
from hierfed.federated.stage import RATING, Stage
from hierfed.methods import Case, Prepared, earlier_stages, kind_of, prepare, stages_of
from hierfed.plain_text import printable
from hierfed.privacy.secure_sum.setup import colluders, smallest_threshold
from hierfed.private_randomness import PrivateStreams
from hierfed.results import PrivacyRecord
from hierfed.sealed import MALFORMED
from hierfed.settings import PRIVATE_SETTINGS, Settings


@dataclass(frozen=True)
class Plan:
    """The terms of one training.

    training: its id, unlike any other's.
    limits: the lowest and the highest possible rating.
    keys: of the nodes in the secure group, by number; empty where the server sees single contributions.
    threshold: the least number of these nodes in a sum.
    nodes: how many have agreed.
    earlier: the finished models of the stages before the one of ratings, once all are over.
    update: what the training goes on from; None for one from the start.
    """

    training: str
    settings: Settings
    catalogue: Catalogue
    limits: tuple[float, float]
    keys: tuple[str, ...] = ()
    threshold: int = 0
    nodes: int = field(kw_only=True)
    earlier: Mapping[str, SharedModel] = field(default_factory=dict)
    update: GoingOn | None = None

    @cached_property
    def secure_group(self) -> SecureGroup | None:
        """The nodes that add securely; None where the server sees single contributions."""
        if not self.keys:
            return None
        share, groups = self.settings.privacy.colluding, self.settings.federation.groups
        keys = {number: PublicKey(key) for number, key in enumerate(self.keys)}

        def part(members: Sequence[int]) -> SecureGroup:
            colluding = colluders(len(members), share)
            own = {number: keys[number] for number in members}
            return SecureGroup(own, smallest_threshold(len(own), colluding), colluding)

        if not groups:
            halves = halvings(len(keys), self.settings.seed) if self.settings.privacy.halves else ()
            pairs = tuple((part(zeros), part(ones)) for zeros, ones in halves)
            return SecureGroup(keys, self.threshold, colluders(len(keys), share), halvings=pairs)
        if 2 * groups > len(keys):
            raise SettingsError(f"federation.groups: {groups} groups of {len(keys)} nodes leave one alone: take fewer")
        parts = tuple(part(members) for members in groups_of(len(keys), groups, self.settings.seed))
        return SecureGroup(keys, self.threshold, colluders(len(keys), share), parts)

    @property
    def private(self) -> bool:
        """True with differential privacy: nodes then send only releases with noise."""
        return self.settings.privacy.privacy_unit != "none"

    @cached_property
    def method(self) -> Method:
        """The method of ratings.

        Raises SettingsError for one that no federation can train, HierfedError before the earlier stages are over.
        """
        return self._prepared(None).method

    def record(self, rounds: int) -> PrivacyRecord | None:
        """The privacy cost of this many rounds; None without differential privacy."""
        return self._prepared(None).privacy([], rounds) if self.private else None

    def _prepared(self, streams: PrivateStreams | None) -> Prepared:
        check_deployable(self.settings, "gossip" if self.settings.federation.topology == "gossip" else "star")
        # Of the nodes that stay to the end of a sum, the colluding ones may have added no noise.
        noise_nodes = None if self.secure_group is None else self.secure_group.threshold - self.secure_group.colluding
        return prepare(replace(self._case(), streams=streams, noise_nodes=noise_nodes))

    def _case(self) -> Case:
        return Case(self.settings, self.catalogue, self.limits, self.earlier)

    def after(self, models: Mapping[str, SharedModel]) -> Plan:
        """The plan with the models of the stages before the one of ratings, once all are over.

        models: of the stages that have begun.
        """
        earlier = earlier_stages(self._case())
        over = all(stage.name in models and models[stage.name].round >= stage.rounds for stage in earlier)
        return replace(self, earlier={stage.name: models[stage.name] for stage in earlier}) if over else self

    def stages(self) -> list[Stage]:
        """Every training, in order."""
        check_deployable(self.settings, "gossip" if self.settings.federation.topology == "gossip" else "star")
        stages = stages_of(self._case())
        return stages if self.update is None else self.update.stages(stages)

    @property
    def beside(self) -> list[str]:
        """The names of the stages whose models serve beside that of ratings: fitted features, and those of lists."""
        return [stage.name for stage in self.stages() if stage.name not in (RATING, OPENING)]

    def rounds_left(self, models: Mapping[str, SharedModel]) -> int:
        """The number of rounds to come in all stages, opening rounds included.

        models: of the stages that have begun.
        """
        left = 0
        for stage in self.stages():
            left += stage.rounds - (models[stage.name].round if stage.name in models else stage.before)
        return left

    def trainer(
        self, name: str, finished: Mapping[str, SharedModel], streams: PrivateStreams | None = None
    ) -> SumMethod:
        """The method that a stage trains.

        finished: the models of the stages before. streams: a node's own, for its noise.
        Raises HierfedError for a stage that the training does not have, or has not come to.
        """
        for place, stage in enumerate(stages := self.stages()):
            if stage.name == name and all(before.name in finished for before in stages[:place]):
                return self._prepared(streams).method if name in (OPENING, RATING) else stage.build(finished)
        raise HierfedError(f"this training has no stage '{name}', or it has not come to it yet")

    def request(self, number: int, finished: Mapping[str, SharedModel]) -> Request:
        """The setup request, with all terms but the catalogue, which nodes have already.

        number: the node's.
        finished: the models of the finished stages, which a node that joins later has missed.
        """
        facts: dict[str, Fact] = {
            "training": self.training,
            "settings": self.settings.model_dump_json(exclude=PRIVATE_SETTINGS),
            "limits": json.dumps(self.limits),
            "keys": json.dumps(self.keys),
            "threshold": self.threshold,
            "number": number,
            "nodes": self.nodes,
            "update": json.dumps(None if self.update is None else asdict(self.update)),
            "finished": json.dumps({stage: shared.round for stage, shared in finished.items()}),
        }
        arrays = {
            f"{stage}.{name}": array for stage, shared in finished.items() for name, array in shared.arrays.items()
        }
        return Request("setup", facts, arrays)


def check_update(plan: Plan) -> None:
    """Raise SettingsError for a plan that goes on from a finished model where none can."""
    if plan.update is None:
        return
    if plan.settings.federation.mode == "async":
        raise SettingsError(
            "federation.mode 'async': a training that goes on from a finished one waits for everybody: leave it at "
            "'sync'"
        )
    if plan.private:
        raise SettingsError(
            "privacy.privacy_unit: under differential privacy no training goes on from a finished one, since each "
            "release costs the users anew: train anew, without --update"
        )
    if earlier_stages(Case(plan.settings, plan.catalogue, plan.limits)) or not plan.method.resumes:
        raise SettingsError(
            f"a model of method '{plan.settings.method}' cannot go on from a finished one: train anew, without --update"
        )


def check_deployable(settings: Settings, topology: str = "star") -> None:
    """Raise SettingsError for settings that no federation can train. topology: `gossip` for peers without a server."""
    if settings.federation.participation != 1:
        raise SettingsError(
            "federation.participation: a real federation asks every node in every round, and goes on with those that "
            "answer (--quorum): leave it at 1"
        )
    if (found := settings.federation.topology) != topology:
        real = {"gossip": ", `hierfed peer` runs it", "tree": ", `hierfed edge` runs it under rule 'exact_sum'"}
        raise SettingsError(
            f"federation.topology '{found}': `hierfed run` simulates it{real.get(found, '')}: leave it at '{topology}'"
        )
    if settings.federation.speed != "constant":
        raise SettingsError(
            "federation.speed: simulates slow nodes; real ones come by themselves: leave it at 'constant'"
        )
    if settings.federation.lost_messages:
        raise SettingsError("federation.lost_messages: simulates losses; real ones come by themselves: leave it at 0")
    if settings.data.implicit:
        raise SettingsError(
            "data.implicit: nodes of a real federation learn from ratings; what was seen is for `hierfed run` alone"
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


def read_plan(facts: Mapping[str, Fact], catalogue: Catalogue) -> Plan:
    """The plan in the facts of a setup request; raises HierfedError for facts that are none."""
    try:
        low, high = (float(end) for end in json.loads(str(facts["limits"])))
        settings = Settings.model_validate_json(str(facts["settings"]))
        keys = tuple(str(key) for key in json.loads(str(facts["keys"])))
        threshold, nodes = int(facts["threshold"]), int(facts["nodes"])
        # Plans from before there were updates say nothing of them.
        update = read_update(str(facts.get("update", "null")))
    except MALFORMED as error:
        raise HierfedError(f"the server's plan cannot be read: {printable(error)}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high) or (keys and len(keys) != nodes):
        raise HierfedError(f"the server's plan cannot be true: ratings from {low} to {high}, {nodes} nodes")
    training = str(facts["training"])
    return Plan(training, settings, catalogue, (low, high), keys, threshold, nodes=nodes, update=update)


def read_update(text: str) -> GoingOn | None:
    """What a training goes on from, of its JSON; raises KeyError, TypeError or ValueError for another text."""
    found = json.loads(text)
    if found is None:
        return None
    # Plans from before an opening could be of counts alone say nothing of it.
    update = GoingOn(str(found["model"]), int(found["round"]), int(found["rounds"]), bool(found.get("keeps", False)))
    if update.round < 1 or update.rounds < 1:
        raise ValueError("it goes on from no round, or for none")
    return update


def read_finished(request: Request) -> dict[str, SharedModel]:
    """The finished models in a setup request, by stage; raises HierfedError for a request that does not say which."""
    models = {}
    try:
        rounds = {str(stage): int(number) for stage, number in json.loads(str(request.facts["finished"])).items()}
    except MALFORMED as error:
        raise HierfedError(f"the server's finished stages cannot be read: {printable(error)}") from error
    for stage, number in rounds.items():
        prefix = f"{stage}."
        arrays = {name.removeprefix(prefix): each for name, each in request.arrays.items() if name.startswith(prefix)}
        models[stage] = SharedModel(arrays, number)
    return models
