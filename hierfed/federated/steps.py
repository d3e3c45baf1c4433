"""Steps between a method and the sum: each changes what a node sends, and may change the total back at the server.

Free of torch: settings name steps. A step keeps contributions additive, so that secure sums work on what is sent; one
that does not is `single`, and changes each contribution back as it arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution, SharedModel
    from hierfed.federated.settings import FederationSettings

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Limit:
    """A public limit of an array of totals.

    most: the largest absolute value that is expected of an entry of the total; its shape broadcasts to the array's.
    bits: the narrowest words that the array may be rounded to.
    """

    most: Tensor
    bits: int = 8


@runtime_checkable
class Limited(Protocol):
    """A method whose contributions can be sent in few bits, since the shared model tells how large their totals are."""

    def total_limits(self, shared: SharedModel) -> Mapping[str, Limit]:
        """The limits of the next round's total, by array, from the shared model alone; other arrays have none."""
        ...

    def reduced(self, contribution: Contribution, shared: SharedModel) -> Contribution:
        """The contribution to the next round less what the shared model foretells of it; it stays additive."""
        ...

    def restored(self, total: Contribution, shared: SharedModel) -> Contribution:
        """The total of contributions from the total of reduced ones."""
        ...


@dataclass(frozen=True)
class Known:
    """Knowledge that the server and all nodes have before a round: the shared model, and the method's limits.

    method: where the method has limits; else None.
    """

    shared: SharedModel
    method: Limited | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)

    @classmethod
    def of(cls, method: object, shared: SharedModel, steps: Sequence[Step]) -> Known:
        """Before the next round of a method; without steps, nobody asks for limits."""
        if steps and isinstance(method, Limited):
            return cls(shared, method, method.total_limits(shared))
        return cls(shared)


class Step:
    """One change of what is sent, such as rounding. A step overrides the halves that it needs.

    single: whether it changes each contribution back as it arrives; see StepKind.
    rounding: the largest error of an entry of a node's contribution after both halves; infinite where there is no such
    bound, and then contributions are only checked to be finite.
    """

    single: ClassVar[bool] = False
    rounding: ClassVar[float] = 0.0

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        """The contribution that the node of this number sends to round known.shared.round + 1."""
        return contribution

    def with_memory(
        self, contribution: Contribution, known: Known, node: int, kept: Mapping[str, Tensor]
    ) -> tuple[Contribution, Mapping[str, Tensor]]:
        """The same for a step that remembers: what is sent, and the arrays that the node keeps for its next round.

        kept: those of the node's last round; empty before it. They never leave the node.
        """
        return self.at_node(contribution, known, node), {}

    def on_arrival(self, sent: Contribution, alike: Contribution, asked: int, node: int) -> Contribution:
        """A single contribution, as it was before this step; only `single` steps need it.

        alike: a contribution of the right names, types and shapes. asked: the number of the round that it is for.
        node: its sender's number. Raises ValueError for one that cannot be read.
        """
        return sent

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        """The total that the method combines, from the total of what was sent."""
        return total


@dataclass(frozen=True)
class StepKind:
    """A step as the settings name it.

    make: gives the step, from the settings, the run's seed and the arrays that may be averaged (MethodKind.averaged).
    single: whether the server must see single contributions, which secure sums hide. Such a step is the last one.
    bits: of the words that it rounds to; 0 for none.
    averaged: whether it changes arrays that may be averaged, and no others.
    """

    make: Callable[[FederationSettings, int, Collection[str]], Step]
    single: bool = False
    bits: int = 0
    averaged: bool = False


def send(
    steps: Sequence[Step], contribution: Contribution, known: Known, node: int, kept: Mapping[str, Tensor] = NOTHING
) -> tuple[Contribution, Mapping[str, Tensor]]:
    """The contribution after the node's half of every step, in order, and the arrays that the node keeps.

    kept: see Step.with_memory. One step at most remembers: it is `single`, and so the last one.
    """
    keeps: Mapping[str, Tensor] = NOTHING
    for step in steps:
        contribution, keeps = step.with_memory(contribution, known, node, kept)
    return contribution, keeps


def arrive(steps: Sequence[Step], sent: Contribution, alike: Contribution, asked: int, node: int) -> Contribution:
    """A contribution as rules add it; see Step.on_arrival."""
    for step in reversed(steps):
        if step.single:
            sent = step.on_arrival(sent, alike, asked, node)
    return sent


def receive(steps: Sequence[Step], total: Contribution, known: Known) -> Contribution:
    """The total after the server's half of every step, in reverse order."""
    for step in reversed(steps):
        total = step.at_server(total, known)
    return total
