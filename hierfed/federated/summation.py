"""How a server in the same process comes by the sum of a round's contributions, and what that takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hierfed.federated.contract import Contribution, ordered_sum


@dataclass(frozen=True)
class Summed:
    """A sum. bytes_up, bytes_down: what all nodes together sent for it, and were sent beside the shared model."""

    total: Contribution
    bytes_up: int
    bytes_down: int = 0


class Summation(Protocol):
    """A way to add contributions up."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """The sum of the contributions, each with its node's number, in the order of the nodes."""
        ...


def sum_openly(contributions: Iterable[tuple[int, Contribution]]) -> Summed:
    """The server sees each contribution, and adds it to the sum; raises ValueError if there is none."""
    sizes: list[int] = []

    def seen() -> Iterator[Contribution]:
        for _, contribution in contributions:
            sizes.append(contribution.nbytes)
            yield contribution

    total = ordered_sum(seen())
    return Summed(total, sum(sizes))
