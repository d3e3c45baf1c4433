"""The server's limits on waiting for its nodes."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_GRACE, SLOWEST = 30.0, 10.0


@dataclass(frozen=True)
class Patience:
    """The server's limits on waiting.

    deadline: seconds for the answers to a round, at the most; see after.
    attempts: failures of one round before the server gives up.
    joining: seconds for a node to answer hello or its setup.
    leaving: seconds for members to go at the end.
    grace, slowest: see after.
    """

    deadline: float = 600.0
    attempts: int = 5
    joining: float = 120.0
    leaving: float = 30.0
    grace: float = LEAST_GRACE
    slowest: float = SLOWEST

    def after(self, taken: float) -> float:
        """Seconds to wait for the others once enough nodes have answered, the last of them after `taken` seconds.

        A node that needs `slowest` times as long as the others is not waited for; `grace` is the least.
        """
        return max(self.grace, self.slowest * taken)
