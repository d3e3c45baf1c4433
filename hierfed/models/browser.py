"""A shared model as a page needs it: compact arrays, from which a browser makes the models of its users.

Arrays of items are rounded to 16 bits, column by column; all others are whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from torch import Tensor

# A 16-bit code counts from 0 to this.
LARGEST_CODE = 65535


@dataclass(frozen=True)
class Rounded:
    """An array of items in 16 bits: value = lowest + step x code.

    codes: uint16 [items, columns]. lowest, step: float64 [columns].
    """

    codes: np.ndarray
    lowest: np.ndarray
    step: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The rounded numbers, float64 [items, columns]."""
        found: np.ndarray = self.lowest + self.step * self.codes
        return found


def rounded(values: Tensor) -> Rounded:
    """An array of items, [items, columns], rounded by at most half a step: the column's range / 131,070."""
    array = values.double().numpy()
    lowest, highest = array.min(0, initial=np.inf), array.max(0, initial=-np.inf)
    step = np.where(highest > lowest, (highest - lowest) / LARGEST_CODE, 1.0)
    codes = np.rint((array - lowest) / step).clip(0, LARGEST_CODE).astype(np.uint16)
    return Rounded(codes, lowest, step)


@dataclass(frozen=True)
class Letters:
    """Rows of letter groups in 16 bits, value = step x code, in the order of a CSR matrix.

    starts: int32 [items + 1]. columns: int32 [entries]. codes: uint16 [entries]. width: how many groups there are.
    """

    starts: np.ndarray
    columns: np.ndarray
    codes: np.ndarray
    step: float
    width: int

    @property
    def matrix(self) -> csr_matrix:
        """The rounded matrix."""
        shape = len(self.starts) - 1, self.width
        return csr_matrix((self.codes * self.step, self.columns, self.starts), shape)


def rounded_letters(titles: csr_matrix) -> Letters:
    """Rows of letter groups, rounded."""
    step = float(titles.data.max(initial=0.0)) / LARGEST_CODE or 1.0
    codes = np.rint(titles.data / step).astype(np.uint16)
    return Letters(titles.indptr.astype(np.int32), titles.indices.astype(np.int32), codes, step, titles.shape[1])


@dataclass(frozen=True)
class BrowserModel:
    """All numbers that a page computes with, and nothing of any user.

    constants: plain numbers and lists of them. small: arrays that belong to no item, float64, row by row.
    of_items: arrays [items, columns]. letters: of the titles, or None.
    words: a sentence on each array, by its name.
    """

    constants: Mapping[str, float | list[float]]
    small: Mapping[str, np.ndarray]
    of_items: Mapping[str, Rounded]
    letters: Letters | None
    words: Mapping[str, str]
