"""Rules that make one total of a round's contributions. Free of torch until one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from hierfed.federated.contract import Contribution, SharedModel, SumMethod
    from hierfed.federated.settings import FederationSettings


@dataclass(frozen=True)
class Summed:
    """A total. bytes_up, bytes_down: what all nodes together sent for it, and were sent beside the shared model."""

    total: Contribution
    bytes_up: int
    bytes_down: int = 0


class Rule(Protocol):
    """Makes one total of contributions."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """The total of the contributions, each with its node's number, in the order of the nodes.

        Raises ValueError if there is none.
        """
        ...


@dataclass(frozen=True)
class RuleKind:
    """A rule as the settings name it.

    make: gives the rule. Its second argument names the arrays of the method that may be combined otherwise than by
    adding, each with the array that weighs it; all other arrays are added.
    single: whether the rule must see single contributions, which secure sums hide; those of groups will do.
    every_method: whether it needs no arrays that may be combined otherwise than by adding.
    adds: whether it is a sum, of whatever is sent.
    """

    make: Callable[[FederationSettings, Mapping[str, str]], Rule]
    single: bool = True
    every_method: bool = False
    adds: bool = False


class OpenSum:
    """The sum, by a server that sees each contribution."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule."""
        from hierfed.federated.contract import ordered_sum  # noqa: PLC0415 - settings are checked without torch

        sizes: list[int] = []

        def seen() -> Iterator[Contribution]:
            for _, contribution in contributions:
                sizes.append(contribution.nbytes)
                yield contribution

        total = ordered_sum(seen())
        return Summed(total, sum(sizes))


OPEN_SUM = OpenSum()


@runtime_checkable
class MethodRule(Rule, Protocol):
    """A rule that asks the method what honest nodes can send."""

    def of(self, method: SumMethod, shared: SharedModel) -> Rule:
        """The rule of the next round of this model."""
        ...


def rule_of_round(rule: Rule, method: SumMethod, shared: SharedModel) -> Rule:
    """The rule as the next round of this model needs it."""
    return rule.of(method, shared) if isinstance(rule, MethodRule) else rule
