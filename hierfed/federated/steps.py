"""Steps between a method and the sum: each changes a contribution at the node, and the total at the server."""

from __future__ import annotations

from typing import Protocol

from hierfed.federated.contract import Contribution, SharedModel


class Step(Protocol):
    """One change of what is sent, such as rounding. It keeps contributions additive, so that secure sums work on it."""

    def at_node(self, contribution: Contribution, shared: SharedModel, node: int) -> Contribution:
        """The contribution that the node of this number sends in place of its own to round shared.round + 1."""
        ...

    def at_server(self, total: Contribution, shared: SharedModel) -> Contribution:
        """The total that the method combines, from the total of what was sent."""
        ...
