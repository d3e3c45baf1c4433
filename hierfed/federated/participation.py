"""Participation: the nodes that take part in a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierfed.randomness import generator


@dataclass(frozen=True)
class Participation:
    """The nodes that take part in a round, drawn at random.

    amount: up to 1, their share of all nodes; above, their number.
    All take part in opening rounds, whose counts are of everybody.
    """

    amount: float = 1.0
    seed: int = 0

    def places(self, round_number: int, nodes: int) -> np.ndarray:
        """The places of those that take part in a round, ascending: drawn without replacement, at least one."""
        everybody: np.ndarray = np.arange(nodes)
        if self.amount == 1 or round_number < 1:
            return everybody
        wanted = round(self.amount * nodes) if self.amount < 1 else int(self.amount)
        if wanted >= nodes:
            return everybody
        random = generator(self.seed, round_number, 0, "participation")
        return np.sort(random.choice(nodes, max(wanted, 1), replace=False))


EVERYONE = Participation()
