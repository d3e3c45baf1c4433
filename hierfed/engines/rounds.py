"""The shape of a training's rounds, for any engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.groups import GroupSums
from hierfed.federated.participation import EVERYONE, Participation
from hierfed.federated.push_sum import PushSum
from hierfed.federated.recorded import RecordedStep
from hierfed.federated.rules import OPEN_SUM, Rule
from hierfed.federated.speeds import Speed, constant
from hierfed.federated.steps import Step
from hierfed.federated.tables import GRAPHS, RULES, SPEEDS, STEPS
from hierfed.federated.tree import TreeSum
from hierfed.methods import kind_of
from hierfed.privacy.protection import secure_sum_of
from hierfed.settings import Settings

Key = TypeVar("Key", int, str)
IN_TIME = 2.0
"""A node is in time that takes at most so many times as long as the slowest of the faster half."""


@dataclass(frozen=True)
class Lateness:
    """The treatment of late answers; see hierfed.engines.asynchronous.

    answers: the number of answers after which the server steps; 0 for half of the nodes.
    speed: of the nodes. seed: of their times.
    averaged: arrays that are weighed by staleness; where there are none, last sums replace former ones.
    staleness: a, in the weight (1 + steps late)^-a.
    recorded: the steps of an earlier training, in whose order nodes answer; None lets their speeds decide.
    """

    answers: int = 0
    speed: Speed = constant
    seed: int = 0
    averaged: frozenset[str] = frozenset()
    staleness: float = 0.5
    recorded: Sequence[RecordedStep] | None = None

    @property
    def of_everybody(self) -> int:
        """The last round that waits for everybody: the last opening one, or the first that a sum of all comes from."""
        return 0 if self.averaged else 1

    def in_time(self, times: Mapping[Key, float], least: float = 0.0) -> list[Key]:
        """The nodes that steering rounds are made with: half of them, and all that are nearly as fast.

        times: until each node's answer to the first round. least: a time that is never too long.
        """
        found = sorted(times.values())
        if self.answers >= len(found):
            return list(times)
        limit = max(IN_TIME * found[(len(found) - 1) // 2], least)
        return [each for each, taken in times.items() if taken <= limit]

    def wanted(self, shared: SharedModel, nodes: int) -> int:
        """The number of answers that the next step waits for; all, where sums must be of everybody."""
        if shared.round < self.of_everybody:
            return nodes
        return self.answers or -(-nodes // 2)

    def weighed(self, answer: Contribution, late: int) -> Contribution:
        """An answer that is so many steps late; its weights stay, so that old changes are smaller steps."""
        weight = (1.0 + late) ** -self.staleness
        arrays = answer.arrays.items()
        return Contribution({name: weight * each if name in self.averaged else each for name, each in arrays})


@dataclass(frozen=True)
class Round:
    """The shape of a round.

    rule: makes one total of the contributions.
    steps: change what nodes send, in order; the server undoes what it must in the reverse order.
    participation: which nodes take part.
    topology, mode: choose the engine; see hierfed.engines.shapes. lateness: of the mode `async`.
    """

    rule: Rule = OPEN_SUM
    steps: tuple[Step, ...] = ()
    participation: Participation = EVERYONE
    topology: str = "star"
    mode: str = "sync"
    lateness: Lateness = field(default_factory=Lateness)

    def with_everyone(self) -> Round:
        """The same rounds with all nodes in each, for trainings that have no participation of their own."""
        return replace(self, participation=EVERYONE, mode="sync")

    def in_order(self, recorded: Callable[[], Sequence[RecordedStep] | None]) -> Round:
        """The same rounds in a recorded order, which asynchronous ones alone ask for."""
        if self.mode != "async":
            return self
        return replace(self, lateness=replace(self.lateness, recorded=recorded()))


PLAIN = Round()


def round_of(settings: Settings) -> Round:
    """The rounds of the settings, in one process."""
    federation = settings.federation
    participation = Participation(federation.participation, settings.seed)
    shape = federation.topology, federation.mode
    return Round(rule_of(settings), steps_of(settings), participation, *shape, lateness_of(settings))


def lateness_of(settings: Settings) -> Lateness:
    """The treatment of late answers under the settings."""
    federation, averaged = settings.federation, frozenset(kind_of(settings).averaged)
    return Lateness(federation.answers, SPEEDS[federation.speed], settings.seed, averaged, federation.staleness)


def with_own_rule(
    settings: Settings, rule: Rule | None, recorded: Callable[[], Sequence[RecordedStep] | None] = lambda: None
) -> Round:
    """The rounds of the settings with a rule of the caller's own; None for the settings' own.

    recorded: see Round.in_order.
    Raises SettingsError where the settings' rounds could not show it single contributions.
    """
    how, federation = round_of(settings).in_order(recorded), settings.federation
    if rule is None:
        return how
    if not callable(rule):
        raise SettingsError(f"rule: expected a name or a function of contributions (found {type(rule).__name__})")
    if settings.privacy.secure_sums or federation.groups or federation.topology != "star":
        raise SettingsError("a rule of your own sees single contributions: leave out secure_sums, groups and topology")
    return replace(how, rule=rule)


def steps_of(settings: Settings) -> tuple[Step, ...]:
    """The steps of the settings, in their order."""
    federation, averaged = settings.federation, frozenset(kind_of(settings).averaged)
    return tuple(STEPS[name].make(federation, settings.seed, averaged) for name in federation.steps)


def rule_of(settings: Settings) -> Rule:
    """The rule of the settings; under secure sums, one that sees no single contribution."""
    federation, kind = settings.federation, kind_of(settings)
    rule = RULES[federation.rule].make(federation, {**kind.averaged, **kind.averaged_rows})
    add = secure_sum_of(settings.privacy) if settings.privacy.secure_sums else OPEN_SUM
    if federation.topology == "gossip":
        return PushSum(GRAPHS[federation.graph], federation.exchanges, federation.lost_messages, settings.seed)
    if federation.topology == "tree":
        return TreeSum(federation.fan_out, add if settings.privacy.secure_sums else None)
    if federation.groups:
        return GroupSums(add, rule, federation.groups, settings.seed)
    return add if settings.privacy.secure_sums else rule
