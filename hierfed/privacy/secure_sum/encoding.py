"""Float64 arrays as fixed-point vectors over a ring, whose sums are exact and cannot overflow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.refusals import OutOfBounds, SecureSumError
from hierfed.privacy.secure_sum.ring import SMALL, Ring, Words

_WORD = 64
# Finer steps than this would leave float64's normal range as they are decoded.
_FINEST = 1000
# A sum at its bound may be rounded to just above it.
_ROUNDED = 1 + 2**-50


@dataclass(frozen=True)
class Bound:
    """A public bound of an array.

    limit: the largest absolute value of any node's entry.
    tolerance: the largest acceptable error of a sum's entry; infinite accepts any error of 64 bits.
    Both must follow from public facts: a bound from a node's own values would disclose them.
    """

    limit: float
    tolerance: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise SecureSumError(f"a bound of {self.limit}: must be finite and at least 0")
        if not self.tolerance > 0:
            raise SecureSumError(f"a tolerance of {self.tolerance}: must be above 0")


@dataclass(frozen=True)
class WordBound:
    """An array of words of so many bits, which are added modulo 2**bits as they are."""

    bits: int


@dataclass(frozen=True)
class Block:
    """The encoding of one array: entry x becomes the integer nearest to x * 2**bits, modulo 2**(64 * words).

    small: the bits of an array that is words already, which stay as they are; else 0.
    """

    name: str
    shape: tuple[int, ...]
    limit: float
    bits: int
    words: int
    small: int = 0

    @property
    def entries(self) -> int:
        """The number of entries of the array."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Encoding:
    """The encoding of contributions as ring vectors; it follows from bounds, so all nodes have the same.

    nodes: the largest number of nodes in a sum.
    blocks: the encodings of the arrays.

    The sum of m <= nodes encoded arrays is off by at most m/2 * 2**-bits per entry, before it is rounded to float64
    (which adds at most 2**-52 of it). Integers, and their sums below 2**53, come out exactly.
    """

    nodes: int
    blocks: tuple[Block, ...]

    @cached_property
    def ring(self) -> Ring:
        """The ring of the vectors."""
        narrow, wide = (sum(block.entries for block in self.blocks if block.words == words) for words in (1, 2))
        small = (sum(block.entries for block in self.blocks if block.small == bits) for bits in SMALL)
        return Ring(narrow, wide, tuple(small))

    def error(self, name: str) -> float:
        """The largest error of an entry of this array's sum over all nodes, before it is rounded to float64."""
        block = next(block for block in self.blocks if block.name == name)
        return self.nodes / 2 * math.ldexp(1, -block.bits)

    def encode(self, contribution: Contribution) -> Words:
        """The contribution as a ring vector, uint64 [ring.words].

        Raises OutOfBounds for an entry that is not finite or beyond its array's limit, SecureSumError for other arrays.
        """
        self._check_arrays(contribution)
        vector = self.ring.zeros()
        for block, low, high in self._places():
            values = contribution.arrays[block.name].detach().cpu().numpy().reshape(-1)
            if not np.isfinite(values).all():
                raise OutOfBounds(f"array '{block.name}' has values that are not finite")
            if np.abs(values).max(initial=0) > block.limit:
                raise OutOfBounds(f"array '{block.name}' has values beyond the bound of {block.limit:g} of every node")
            steps = np.rint(np.ldexp(values, block.bits))
            if high is None:
                vector[low] = steps.astype(np.int64).view(np.uint64)
            else:
                vector[low], vector[high] = _two_words(steps)
        for block, place in self._small_places(vector):
            values = contribution.arrays[block.name].detach().cpu().numpy().reshape(-1)
            place[:] = values.view(place.dtype)
        return vector

    def decode(self, total: Words, nodes: int) -> Contribution:
        """The sum of the contributions of this many nodes, from the sum of their vectors.

        Raises SecureSumError for a sum that values within the bounds cannot have.
        """
        arrays = {}
        for block, low, high in self._places():
            if high is None:
                steps = total[low].view(np.int64).astype(np.float64)
            else:
                steps = _from_two_words(total[low], total[high])
            if np.abs(steps).max(initial=0) > float(nodes * _most(block.limit, block.bits)) * _ROUNDED:
                raise SecureSumError(
                    f"the sum of '{block.name}' is beyond {nodes} times the bound: some node did not keep to it"
                )
            arrays[block.name] = torch.from_numpy(np.ldexp(steps, -block.bits).reshape(block.shape))
        for block, place in self._small_places(total):
            words = place.view(f"<i{block.small // 8}").reshape(block.shape)
            arrays[block.name] = torch.from_numpy(words.copy())
        return Contribution(arrays)

    def text(self) -> bytes:
        """The whole encoding in one unambiguous line, for digests."""
        return repr(
            (self.nodes, [(b.name, b.shape, b.limit.hex(), b.bits, b.words, b.small) for b in self.blocks])
        ).encode()

    def _places(self) -> list[tuple[Block, slice, slice | None]]:
        """The places of each block's low words in a vector, and of its high words, if it has them."""
        places: list[tuple[Block, slice, slice | None]] = []
        narrow, wide = 0, self.ring.narrow
        for block in self.blocks:
            if block.words == 1:
                places.append((block, slice(narrow, narrow + block.entries), None))
                narrow += block.entries
            elif block.words == 2:
                low = slice(wide, wide + block.entries)
                places.append((block, low, slice(low.start + self.ring.wide, low.stop + self.ring.wide)))
                wide += block.entries
        return places

    def _small_places(self, vector: Words) -> Iterator[tuple[Block, NDArray[Any]]]:
        """Each block of small words, and a view of its place in a vector."""
        for bits, place in zip(SMALL, self.ring.small_words(vector), strict=True):
            begin = 0
            for block in self.blocks:
                if block.small == bits:
                    yield block, place[begin : begin + block.entries]
                    begin += block.entries

    def _check_arrays(self, contribution: Contribution) -> None:
        words = contribution.words
        found = {name: (tuple(array.shape), words.get(name, 0)) for name, array in contribution.arrays.items()}
        wanted = {block.name: (block.shape, block.small) for block in self.blocks}
        if found != wanted:
            raise SecureSumError(f"the contribution's arrays are {found}, agreed on were {wanted}")


def plan(shapes: Mapping[str, Sequence[int]], bounds: Mapping[str, Bound | WordBound], nodes: int) -> Encoding:
    """The finest encoding in which no sum over `nodes` nodes within the bounds can overflow.

    64 bits an entry where they meet the tolerance and leave integers whole, else 128. Raises SecureSumError for an
    array without a bound, a bound without an array, or a tolerance that 128 bits do not meet.
    """
    if nodes < 1:
        raise SecureSumError(f"a sum over {nodes} nodes")
    if shapes.keys() != bounds.keys():
        odd = ", ".join(sorted(shapes.keys() ^ bounds.keys()))
        raise SecureSumError(f"every array needs one bound, and every bound an array: {odd}")
    return Encoding(
        nodes, tuple(_block(name, tuple(map(int, shapes[name])), bounds[name], nodes) for name in sorted(shapes))
    )


def _block(name: str, shape: tuple[int, ...], bound: Bound | WordBound, nodes: int) -> Block:
    if isinstance(bound, WordBound):
        return Block(name, shape, 0.0, 0, 0, bound.bits)
    error = Fraction(0)
    for words in (1, 2):
        bits = _finest(bound.limit, nodes, words * _WORD)
        error = Fraction(nodes, 2) / Fraction(2) ** bits
        if bits >= 0 and error <= bound.tolerance:
            return Block(name, shape, float(bound.limit), bits, words)
    raise SecureSumError(
        f"sums of '{name}' over {nodes} nodes with a bound of {bound.limit:g} would be off by up to {float(error):.3g} "
        "even in 128 bits; give a smaller bound, or a larger tolerance that leaves steps of 1 or less"
    )


def _finest(limit: float, nodes: int, ring_bits: int) -> int:
    """The largest number of fraction bits with which the sum of `nodes` values up to the limit stays in the ring."""
    bits = min(ring_bits - math.frexp(limit)[1], _FINEST) if limit else _FINEST
    while nodes * _most(limit, bits) >= 2 ** (ring_bits - 1):
        bits -= 1
    return bits


def _most(limit: float, bits: int) -> int:
    """The largest integer that a value up to the limit is encoded as."""
    return round(Fraction(limit) * Fraction(2) ** bits)


def _two_words(steps: NDArray[np.float64]) -> tuple[Words, Words]:
    """Whole numbers below 2**127 in absolute value, modulo 2**128: low and high words."""
    size = np.abs(steps)
    upper = np.floor(np.ldexp(size, -_WORD))
    low, high = (size - np.ldexp(upper, _WORD)).astype(np.uint64), upper.astype(np.uint64)
    return _negated(low, high, steps < 0)


def _from_two_words(low: Words, high: Words) -> NDArray[np.float64]:
    negative = high >> np.uint64(_WORD - 1) == 1
    low, high = _negated(low, high, negative)
    size = np.ldexp(high.astype(np.float64), _WORD) + low.astype(np.float64)
    return np.where(negative, -size, size)


def _negated(low: Words, high: Words, where: NDArray[np.bool_]) -> tuple[Words, Words]:
    """Their negatives modulo 2**128, at these entries."""
    carry = (low == 0).astype(np.uint64)
    return np.where(where, ~low + np.uint64(1), low), np.where(where, ~high + carry, high)
