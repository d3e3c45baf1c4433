"""FedAvgM: momentum at the server, on the nodes' mean change.

    m = b m + d,   x = x + rate m

Source: Hsu et al., Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
arXiv:1909.06335; Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedAvgM:
    """The server's optimizer; see ServerOptimizer.

    learning_rate: of the server. decay: b.
    """

    learning_rate: float
    decay: float = 0.9

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See ServerOptimizer."""
        momentum = self.decay * server.get("momentum", change.new_zeros(change.shape)) + change
        return parameters + self.learning_rate * momentum, {"momentum": momentum}
