"""Rounds of halves: two secure sums in place of one, so that a node that spoils sums is found.

Each node has a code of so many bits, unlike any other's; a bit's halving puts the nodes with 0 on one side and those
with 1 on the other. A node that spoils every sum that it is in spells its own code, a bit a round. Codes come in pairs
of opposites, so that halves differ by one node at the most, and are drawn so that no combination of the halves' sums
is one node's part, were it the same in all rounds. There are no other halvings than these, and each is used
in one round at the most: what halves tell is bounded by the logarithm of the number of nodes.

Source: binary splitting for one defective among n, Dorfman, The Detection of Defective Members of Large Populations,
Annals of Mathematical Statistics 14(4), 1943; the codes are the columns of a non-adaptive design.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hierfed.errors import HierfedError
from hierfed.randomness import generator

# Fewer nodes than this tell each other too much, as in a plan.
LEAST_HALF = 3
# Spoilt sums in a row after which the search begins.
SEARCH_AFTER = 2
MOST_DRAWS, NEARLY = 100, 1e-6

Halving = tuple[tuple[int, ...], tuple[int, ...]]


def halvings(nodes: int, seed: int) -> tuple[Halving, ...]:
    """Every halving of the nodes 0 to nodes - 1, in the order of the rounds; none for too few nodes.

    seed: decides which node has which code; no node and no server chooses.
    """
    if nodes < 2 * LEAST_HALF:
        return ()
    for draw in range(MOST_DRAWS):
        codes = _codes(nodes, seed, draw)
        if not _single_out(codes):
            return tuple((_side(bit, 0), _side(bit, 1)) for bit in codes)
    raise HierfedError(f"{nodes} nodes have no halvings that hide each of them: leave privacy.halves out")


def _side(bit: NDArray[np.int64], side: int) -> tuple[int, ...]:
    return tuple(np.flatnonzero(bit == side).tolist())


def _codes(nodes: int, seed: int, draw: int) -> NDArray[np.int64]:
    """Random codes as 0 and 1 [bits, nodes], in pairs of opposites, all unlike."""
    bits = (nodes - 1).bit_length()
    random = generator(seed, draw, 0, "halves")
    drawn = random.permutation(1 << (bits - 1))[: (nodes + 1) // 2]
    codes = np.stack([drawn, (1 << bits) - 1 - drawn], 1).reshape(-1)[:nodes]
    return (codes[random.permutation(nodes)] >> np.arange(bits)[:, None]) & 1


def _single_out(codes: NDArray[np.int64]) -> bool:
    """True where a linear combination of the sums of halves is one node's part: then its leverage is 1."""
    sums = np.vstack([codes, np.ones((1, codes.shape[1]))])
    return bool((np.linalg.pinv(sums) * sums.T).sum(1).max() > 1 - NEARLY)


@dataclass(frozen=True)
class Search:
    """The search for one node that spoils sums, as far as it has come.

    halvings: how many there are. used: how many of them rounds have had.
    spoilt: sums of all nodes in a row that no honest ratings can give.
    suspects: the nodes that every spoilt half had; None before there was one.
    over: True once nothing more can be found: two nodes lie, or one that does so now and then.
    """

    halvings: int
    used: int = 0
    spoilt: int = 0
    suspects: frozenset[int] | None = None
    over: bool = False

    @property
    def halving(self) -> int | None:
        """The halving of the next round; None for a sum of all nodes."""
        begun = self.used > 0 or self.spoilt >= SEARCH_AFTER
        return self.used if begun and not self.over and self.found is None and self.used < self.halvings else None

    @property
    def found(self) -> int | None:
        """The number of the node that is found; None as long as there is none."""
        suspects = self.suspects or frozenset()
        return min(suspects) if len(suspects) == 1 and not self.over else None

    def after_all(self, spoilt: bool) -> Search:
        """After a sum of all nodes."""
        return replace(self, spoilt=self.spoilt + 1 if spoilt else 0)

    def after_halves(self, spoilt: Iterable[Iterable[int]]) -> Search:
        """After a round of halves; spoilt: the nodes in each spoilt sum.

        A half that is not spoilt excuses nobody, since a liar may rest; a spoilt one has a liar in it for certain.
        """
        halves = [frozenset(half) for half in spoilt]
        suspects = self.suspects
        for half in halves:
            suspects = half if suspects is None else suspects & half
        over = self.over or len(halves) > 1 or suspects == frozenset()
        return replace(self, used=self.used + 1, suspects=suspects, over=over)
