"""Vectors over Z_2^64, and over Z_2^128 where 64 bits are too few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Ring:
    """The group of masked vectors: Z_2^64 to the `narrow`, times Z_2^128 to the `wide`.

    A vector is uint64 [narrow + 2 * wide]: the narrow entries, the wide ones' low words, their high words. Uniform
    words are a uniform element, so the words of a stream cipher are a mask.
    """

    narrow: int
    wide: int

    @property
    def words(self) -> int:
        """The length of a vector in uint64 words."""
        return self.narrow + 2 * self.wide

    def zeros(self) -> Words:
        """The zero vector."""
        return np.zeros(self.words, np.uint64)

    def add(self, total: Words, other: Words) -> None:
        """Add `other` to `total` in place."""
        total += other
        if self.wide:
            low, high = self._limbs(total)
            high += low < self._limbs(other)[0]

    def subtract(self, total: Words, other: Words) -> None:
        """Subtract `other` from `total` in place."""
        if self.wide:
            low, high = self._limbs(total)
            high -= low < self._limbs(other)[0]
        total -= other

    def _limbs(self, vector: Words) -> tuple[Words, Words]:
        return vector[self.narrow : self.narrow + self.wide], vector[self.narrow + self.wide :]
