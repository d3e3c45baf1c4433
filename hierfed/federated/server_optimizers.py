"""Server optimizers: how the server moves the parameters by the nodes' mean change. Free of torch until one is used.

Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ServerOptimizer(Protocol):
    """Moves parameters by a mean change, which takes the place of a gradient with its sign turned."""

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The new parameters, float64 [parameters], and the server's own arrays for the next step.

        change: the nodes' mean change, float64 [parameters]. server: what the last step gave, empty before the first.
        """
        ...


class FullStep:
    """parameters + change, as in FedAvg; nothing is kept."""

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See ServerOptimizer."""
        return parameters + change, {}
