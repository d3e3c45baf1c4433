"""A tree: nodes send to edges, and edges send the sums of their nodes to the root. Free of torch until it is used.

The root receives a sum from each edge in the place of a contribution from each node. Under secure sums an edge learns
the sum of its nodes and the root those of the edges, where a star's server learns the sum of all alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from hierfed.federated.exact_sum import ExactTotal, exact_total
from hierfed.federated.rules import OPEN_SUM, Rule, Summed

if TYPE_CHECKING:
    from hierfed.federated.contract import Contribution


def edges_of(nodes: int, fan_out: int) -> list[range]:
    """The places of the nodes of each edge: neighbours, as many as the fan-out at the most, and one more or less."""
    edges = -(-nodes // fan_out)
    ends = [nodes * edge // edges for edge in range(edges + 1)]
    return [range(first, end) for first, end in pairwise(ends)]


@dataclass(frozen=True)
class TreeSum:
    """The sum of the edges' sums; see Rule. Open sums are exact: a star under rule `exact_sum` has the same bits.

    fan_out: the most nodes of an edge. add: sums the nodes of an edge securely; None for open sums.
    """

    fan_out: int
    add: Rule | None = None

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule. Bytes are those of both levels."""
        if self.add is None:
            return _exact(contributions, self.fan_out)
        given: Sequence[tuple[int, Contribution]] = list(contributions)
        if not given:
            raise ValueError("no node contributed")
        parts = [[given[place] for place in edge] for edge in edges_of(len(given), self.fan_out)]
        sums = [self.add(part) for part in parts]
        at_root = OPEN_SUM((number, each.total) for number, each in enumerate(sums))
        up = at_root.bytes_up + sum(each.bytes_up for each in sums)
        return Summed(at_root.total, up, sum(each.bytes_down for each in sums))


def _exact(contributions: Iterable[tuple[int, Contribution]], fan_out: int) -> Summed:
    """The exact sum, edge after edge, so that no more than one edge's contributions are held.

    It is the same however nodes are shared out, and so are the bytes: here each edge but the last one is full.
    """
    total: ExactTotal | None = None
    up, given = 0, iter(contributions)
    while part := list(islice(given, fan_out)):
        found, sent = exact_total(part)
        up += sent + found.nbytes
        if total is None:
            total = found
        else:
            total.add(found)
    if total is None:
        raise ValueError("no node contributed")
    return Summed(total.rounded(), up)
