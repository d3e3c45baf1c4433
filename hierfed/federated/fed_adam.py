"""FedAdam: Adam at the server, on the nodes' mean change.

    m = b1 m + (1 - b1) d,   v = b2 v + (1 - b2) d^2,   x = x + rate m / (sqrt(v) + tau)

Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295, algorithm 2 (no bias correction).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedAdam:
    """The server's optimizer; see ServerOptimizer.

    learning_rate: of the server. first_decay, second_decay: b1 and b2. adaptivity: tau, which bounds the step of a
    parameter that hardly changed; v begins at tau^2.
    """

    learning_rate: float
    first_decay: float = 0.9
    second_decay: float = 0.99
    adaptivity: float = 1e-3

    def step(
        self, parameters: Tensor, change: Tensor, server: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See ServerOptimizer."""
        first = server.get("first_moment", change.new_zeros(change.shape))
        second = server.get("second_moment", change.new_full(change.shape, self.adaptivity**2))
        first = self.first_decay * first + (1 - self.first_decay) * change
        second = self.second_moment(second, change.square())
        moved = parameters + self.learning_rate * first / (second.sqrt() + self.adaptivity)
        return moved, {"first_moment": first, "second_moment": second}

    def second_moment(self, before: Tensor, squares: Tensor) -> Tensor:
        """The next v from the last one and d^2."""
        return self.second_decay * before + (1 - self.second_decay) * squares
