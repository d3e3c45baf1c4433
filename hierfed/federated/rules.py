"""Rules that make one total of a round's contributions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hierfed.federated.contract import Contribution, ordered_sum


@dataclass(frozen=True)
class Summed:
    """A total. bytes_up, bytes_down: what all nodes together sent for it, and were sent beside the shared model."""

    total: Contribution
    bytes_up: int
    bytes_down: int = 0


class Rule(Protocol):
    """Makes one total of contributions."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """The total of the contributions, each with its node's number, in the order of the nodes.

        Raises ValueError if there is none.
        """
        ...


class OpenSum:
    """The sum, by a server that sees each contribution."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule."""
        sizes: list[int] = []

        def seen() -> Iterator[Contribution]:
            for _, contribution in contributions:
                sizes.append(contribution.nbytes)
                yield contribution

        total = ordered_sum(seen())
        return Summed(total, sum(sizes))


OPEN_SUM = OpenSum()
