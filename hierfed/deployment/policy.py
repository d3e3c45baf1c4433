"""A node's own conditions: what it takes part in, whatever the server asks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from hierfed.deployment.plan import Plan
from hierfed.engines.exchange import Request
from hierfed.engines.going_on import OPENING
from hierfed.engines.secure_round import HALVING
from hierfed.errors import HierfedError, SettingsError, reason_of
from hierfed.federated.contract import digest_of
from hierfed.federated.stage import RATING
from hierfed.lookup import nearest
from hierfed.plain_text import plural
from hierfed.section import Count, NonNegative, Section
from hierfed.serving.forgetting import LEAST_USERS
from hierfed.settings import Settings


class Policy(Section):
    """The conditions of a node; a plan or a request beyond them is refused in one line.

    least_nodes: of a plan. A sum over two nodes tells each of them the other's part.
    least_raters: of an item that is summed, under methods that sum by item; by default the package's own threshold.
    least_users: of those whose ratings have changed since this node's last training, in an update; see
    hierfed.deployment.batches.
    methods, stages: the only ones that it takes part in; empty for any.
    sums: `secure` refuses a server that would see this node's own contributions.
    halves: False refuses a plan under which the server may add some rounds by halves of the nodes (privacy.halves).
    epsilon: the most that a training may cost each of its users in differential privacy; infinite for any training.
    most_rounds: of a stage, those before round 1 too. most_requests: for contributions, in one training.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    least_nodes: Count = 3
    least_raters: Count = Field(default_factory=lambda: Settings().factors.min_raters)
    least_users: Count = LEAST_USERS
    methods: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    sums: Literal["any", "secure"] = "any"
    halves: bool = True
    epsilon: NonNegative = float("inf")
    most_rounds: Count = 1000
    most_requests: Count = 10_000

    def check(self, plan: Plan) -> None:
        """Raise HierfedError for a plan that this node does not agree to."""
        settings, stages = plan.settings, plan.stages()
        privacy, raters = settings.privacy, settings.factors.min_raters
        if plan.nodes < self.least_nodes:
            raise _beyond("least_nodes", f"has {plural(plan.nodes, 'node')}", f"{self.least_nodes} at the least", True)
        if self.methods and not {settings.method}.intersection(self.methods):
            raise _beyond("methods", f"trains method '{settings.method}'", ", ".join(self.methods))
        if not plan.private and raters < self.least_raters:
            raise _beyond("least_raters", f"sums items with {raters} raters", f"{self.least_raters} at the least", True)
        if self.sums == "secure" and plan.secure_group is None:
            raise _beyond("sums", "has no secure sums", "secure")
        if privacy.halves and not self.halves:
            raise _beyond("halves", "has privacy.halves", "none")
        if self.epsilon != float("inf") and not (plan.private and privacy.epsilon <= self.epsilon):
            offered = f"epsilon {privacy.epsilon:g}" if plan.private else "no differential privacy"
            raise HierfedError(f"the server's plan has {offered}, and --epsilon asks for {self.epsilon:g} at the most")
        for stage in stages:
            if self.stages and (RATING if stage.name == OPENING else stage.name) not in self.stages:
                raise _beyond("stages", f"has stage '{stage.name}'", ", ".join(self.stages))
            if stage.rounds - stage.before > self.most_rounds:
                rounds = stage.rounds - stage.before
                raise _beyond("most_rounds", f"has {rounds:,} rounds of '{stage.name}'", f"{self.most_rounds:,}")


def _beyond(key: str, found: str, wanted: str, option: bool = False) -> HierfedError:
    remedy = f"--{key.replace('_', '-')}, where that is meant" if option else "another --policy, where that is meant"
    return HierfedError(f"the server's plan {found}, and this node's {key} asks for {wanted}: say {remedy}")


def read_policy(path: Path | None, options: Mapping[str, Any]) -> Policy:
    """The policy of a TOML file, with options in place of its values; None for no file.

    Raises SettingsError in one line for a file that cannot be read, an unknown key, and a value that does not fit.
    """
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"--policy {path}: cannot be read: {reason_of(error)}") from error
    known = list(Policy.model_fields)
    for key in found:
        if key not in known:
            raise SettingsError(f"--policy {path}: unknown key '{key}'{nearest(key, known)}")
    try:
        return Policy.model_validate(found | {key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--policy {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class Asked:
    """The requests for contributions that a node has answered in a training: they go forward only.

    A server may repeat the last round, and the one before it where it lost its last checkpoint, with the model that it
    had then; with another model, a round would be a question anew to the same ratings.

    record: as `record` gave it; empty for a new training.
    """

    def __init__(self, training: str, record: Mapping[str, Any]):
        same = record.get("training") == training
        self._training = training
        self._count = int(record["count"]) if same else 0
        self._known: list[tuple[str, int, str]] = [tuple(each) for each in record["known"]] if same else []
        self._halved: tuple[str, int, int] | None = tuple(record["halved"]) if same and record.get("halved") else None

    def note(self, request: Request, plan: Plan, most: int) -> None:
        """Raise HierfedError for a request that goes back, beyond the stage, or is one too many.

        most: requests in the training.
        """
        stages = {stage.name: (place, stage) for place, stage in enumerate(plan.stages())}
        name, number, digest = str(request.facts["stage"]), int(request.facts["round"]), digest_of(request.arrays)
        if name not in stages:
            raise HierfedError(f"the server asks for stage {name[:40]!r}, which this training does not have")
        place, stage = stages[name]
        if not stage.before < number <= stage.rounds:
            raise HierfedError(f"the server asks for round {number} of '{name}', which the plan does not have")
        if self._count >= most:
            raise HierfedError(f"the server asks for more than this node's most_requests of {most:,}")
        before = [(stages[stage_name][0], of_stage) for stage_name, of_stage, _ in self._known]
        if before and (place, number) < max(before) and (place, number) not in before:
            raise HierfedError(f"the server goes back to round {number} of '{name}': rounds go forward only")
        if any(each[:2] == (name, number) and each[2] != digest for each in self._known):
            raise HierfedError(f"the server asks again for round {number} of '{name}', with another model")
        self._note_halving(request, plan, place)
        self._count += 1
        if (name, number, digest) not in self._known:
            self._known = [*self._known, (name, number, digest)][-2:]

    def _note_halving(self, request: Request, plan: Plan, place: int) -> None:
        """Raise HierfedError for a halving that the plan does not have, or a second one of one round.

        Each halving is of one round, and each round has one at the most: so no contribution is in two halves' sums.
        """
        if HALVING not in request.facts:
            return
        name, number, halving = str(request.facts["stage"]), int(request.facts["round"]), request.facts[HALVING]
        known = len(plan.secure_group.halvings) if plan.secure_group is not None else 0
        if not isinstance(halving, int) or not 0 <= halving < known:
            raise HierfedError(f"the server asks for halves of round {number} of '{name}' that the plan does not have")
        asked = (name, number, halving)
        if self._halved is not None and asked != self._halved:
            before = [stage.name for stage in plan.stages()].index(self._halved[0]), *self._halved[1:]
            if not ((place, number) > before[:2] and halving > before[2]):
                raise HierfedError(
                    f"the server asks for other halves of round {number} of '{name}', or for those of an earlier round "
                    "again: a difference of two such sums would tell of single nodes"
                )
        self._halved = asked

    def record(self) -> dict[str, Any]:
        """The conditions that a node keeps."""
        known = [list(each) for each in self._known]
        halved = None if self._halved is None else list(self._halved)
        return {"training": self._training, "count": self._count, "known": known, "halved": halved}
