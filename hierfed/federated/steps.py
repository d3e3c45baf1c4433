"""Steps between a method and the sum: each changes what a node sends, and may change the total back at the server."""

from __future__ import annotations

from typing import Protocol

from hierfed.federated.contract import Contribution, SharedModel


class Step(Protocol):
    """One change of what is sent, such as rounding. It keeps contributions additive, so that secure sums work on it."""

    def at_node(self, contribution: Contribution, shared: SharedModel, node: int) -> Contribution:
        """What the node of this number sends in place of the contribution to round shared.round + 1."""
        ...

    def at_server(self, total: Contribution, shared: SharedModel) -> Contribution:
        """The total that the method combines, from the total of what was sent."""
        ...
