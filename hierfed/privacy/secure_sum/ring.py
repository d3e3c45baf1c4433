"""Vectors over Z_2^64, over Z_2^128 where 64 bits are too few, and over the rings of words of 32, 16 and 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
SMALL = (32, 16, 8)
"""The widths of small words, in bits."""


@dataclass(frozen=True)
class Ring:
    """The group of masked vectors: Z_2^64 to the `narrow`, times Z_2^128 to the `wide`, times those of small words.

    A vector is uint64 [words]: the narrow entries, the wide ones' low words, their high words; then the small words of
    each width in SMALL, each width filled up to whole uint64. Uniform words are a uniform element, so the words of a
    stream cipher are a mask.

    small: the number of entries of each width in SMALL.
    """

    narrow: int
    wide: int
    small: tuple[int, ...] = (0, 0, 0)

    @property
    def words(self) -> int:
        """The length of a vector in uint64 words."""
        return self._whole + sum(map(_filled, self.small, SMALL))

    def zeros(self) -> Words:
        """The zero vector."""
        return np.zeros(self.words, np.uint64)

    def add(self, total: Words, other: Words) -> None:
        """Add `other` to `total` in place."""
        total[: self._whole] += other[: self._whole]
        for mine, theirs in zip(self.small_words(total), self.small_words(other), strict=True):
            np.add(mine, theirs, out=mine)
        if self.wide:
            low, high = self._limbs(total)
            high += low < self._limbs(other)[0]

    def subtract(self, total: Words, other: Words) -> None:
        """Subtract `other` from `total` in place."""
        if self.wide:
            low, high = self._limbs(total)
            high -= low < self._limbs(other)[0]
        total[: self._whole] -= other[: self._whole]
        for mine, theirs in zip(self.small_words(total), self.small_words(other), strict=True):
            np.subtract(mine, theirs, out=mine)

    def small_words(self, vector: Words) -> list[NDArray[Any]]:
        """The entries of each width in SMALL: views of the vector, which must be contiguous."""
        views, begin = [], self._whole
        for entries, bits in zip(self.small, SMALL, strict=True):
            end = begin + _filled(entries, bits)
            views.append(vector[begin:end].view(f"<u{bits // 8}")[:entries])
            begin = end
        return views

    @property
    def _whole(self) -> int:
        return self.narrow + 2 * self.wide

    def _limbs(self, vector: Words) -> tuple[Words, Words]:
        return vector[self.narrow : self.narrow + self.wide], vector[self.narrow + self.wide : self._whole]


def _filled(entries: int, bits: int) -> int:
    """The uint64 words that so many small words fill."""
    return -(-entries * bits // 64)
