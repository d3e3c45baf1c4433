"""FedYogi: FedAdam whose second moment moves by the size of a squared change, not by its distance to it.

    m = b1 m + (1 - b1) d,   v = v - (1 - b2) d^2 sign(v - d^2),   x = x + rate m / (sqrt(v) + tau)

Source: Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295, algorithm 2; Zaheer et al., Adaptive
Methods for Nonconvex Optimization, NeurIPS 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hierfed.federated.fed_adam import FedAdam

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """The server's optimizer; see ServerOptimizer, and FedAdam for its fields."""

    def second_moment(self, before: Tensor, squares: Tensor) -> Tensor:
        """See FedAdam."""
        return before - (1 - self.second_decay) * squares * (before - squares).sign()
