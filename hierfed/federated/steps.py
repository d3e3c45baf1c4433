"""Steps between a method and the sum: each changes what a node sends, and may change the total back at the server.

Free of torch: settings name steps. A step keeps contributions additive, so that secure sums work on what is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hierfed.federated.contract import Contribution, SharedModel


class Step(Protocol):
    """One change of what is sent, such as rounding."""

    def at_node(self, contribution: Contribution, shared: SharedModel, node: int) -> Contribution:
        """The contribution that the node of this number sends to round shared.round + 1."""
        ...

    def at_server(self, total: Contribution, shared: SharedModel) -> Contribution:
        """The total that the method combines, from the total of what was sent."""
        ...


def send(steps: Sequence[Step], contribution: Contribution, shared: SharedModel, node: int) -> Contribution:
    """The contribution after the node's half of every step, in order."""
    for step in steps:
        contribution = step.at_node(contribution, shared, node)
    return contribution


def receive(steps: Sequence[Step], total: Contribution, shared: SharedModel) -> Contribution:
    """The total after the server's half of every step, in reverse order."""
    for step in reversed(steps):
        total = step.at_server(total, shared)
    return total
