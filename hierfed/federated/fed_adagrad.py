"""FedAdagrad: Adagrad at the server, on the nodes' mean change.

    m = b1 m + (1 - b1) d,   v = v + d^2,   x = x + rate m / (sqrt(v) + tau)

Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295, algorithm 2, with its b1 = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hierfed.federated.fed_adam import FedAdam

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedAdagrad(FedAdam):
    """The server's optimizer; see ServerOptimizer, and FedAdam for its fields. `second_decay` has no part in it."""

    first_decay: float = 0.0

    def second_moment(self, before: Tensor, squares: Tensor) -> Tensor:
        """See FedAdam."""
        return before + squares
