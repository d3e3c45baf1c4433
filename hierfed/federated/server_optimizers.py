"""Server optimizers, which move the parameters by the nodes' mean change. Free of torch until one is used.

Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ServerOptimizer(Protocol):
    """Moves parameters by a mean change, which takes the place of a gradient with its sign turned."""

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The new parameters, float64 [parameters], and the server's own arrays for the next step.

        change: the nodes' mean change, float64 [parameters].
        server: the arrays that the last step gave; empty before the first.
        """
        ...


@dataclass(frozen=True)
class PlainStep:
    """parameters + learning_rate * change; with a rate of 1 it is FedAvg. Nothing is kept."""

    learning_rate: float = 1.0

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See ServerOptimizer."""
        return parameters + self.learning_rate * change, {}
