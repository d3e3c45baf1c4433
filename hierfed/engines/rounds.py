"""The shape of a training's rounds, for any engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hierfed.federated.groups import GroupSums
from hierfed.federated.participation import EVERYONE, Participation
from hierfed.federated.rules import OPEN_SUM, Rule
from hierfed.federated.steps import Step
from hierfed.federated.tables import RULES, STEPS
from hierfed.methods import kind_of
from hierfed.privacy.protection import secure_sum_of
from hierfed.settings import Settings


@dataclass(frozen=True)
class Round:
    """The shape of a round.

    rule: makes one total of the contributions.
    steps: change what nodes send, in order; the server undoes what it must in the reverse order.
    participation: which nodes take part.
    """

    rule: Rule = OPEN_SUM
    steps: tuple[Step, ...] = ()
    participation: Participation = EVERYONE

    def with_everyone(self) -> Round:
        """The same rounds with all nodes, for trainings that have no participation of their own."""
        return replace(self, participation=EVERYONE)


PLAIN = Round()


def round_of(settings: Settings) -> Round:
    """The rounds of the settings, in one process."""
    participation = Participation(settings.federation.participation, settings.seed)
    return Round(rule_of(settings), steps_of(settings), participation)


def steps_of(settings: Settings) -> tuple[Step, ...]:
    """The steps of the settings, in their order."""
    return tuple(STEPS[name].make(settings.federation, settings.seed) for name in settings.federation.steps)


def rule_of(settings: Settings) -> Rule:
    """The rule of the settings; under secure sums, one that sees no single contribution."""
    federation = settings.federation
    rule = RULES[federation.rule].make(federation, kind_of(settings).averaged)
    add = secure_sum_of(settings.privacy) if settings.privacy.secure_sums else OPEN_SUM
    if federation.groups:
        return GroupSums(add, rule, federation.groups, settings.seed)
    return add if settings.privacy.secure_sums else rule
