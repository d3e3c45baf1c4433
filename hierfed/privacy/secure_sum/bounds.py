"""Bounds of the entries of contributions, and the precision of their sums, from the size of an array alone.

A node refuses an entry of its own beyond the bound before it sends anything; it does not clip it. Arrays of few entries
get 128 bits each, which hold anything that float64 counts exactly. Large ones are sums by item or by parameter, and get
64 bits while these meet TOLERANCE: up to 64 nodes. Both keep integers exact.

The error of an item's posterior from this: with A and c off by at most e = TOLERANCE in each entry, its mean is off by
dg = Cov (dc - dA g), so |dg| <= |S| (1 + (1 + rank)^1/2 |g|) (1 + rank)^1/2 e to first order, for Cov <= S, the
prior covariance: about 1e-6 at rank 8 for |S| = 0.2 in the worst case, in which all nodes round the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hierfed.privacy.secure_sum.encoding import Bound, WordBound

FEW_ENTRIES = 4096
FEW, LARGE = Bound(2.0**60, 2.0**-30), Bound(2.0**31, 2.0**-20)


NO_WORDS: Mapping[str, int] = MappingProxyType({})


def public_bounds(
    shapes: Mapping[str, Sequence[int]], words: Mapping[str, int] = NO_WORDS
) -> dict[str, Bound | WordBound]:
    """The bound of each array.

    words: the bits of the arrays that are words already, and are added as they are.
    """
    usual = {name: FEW if math.prod(shape) <= FEW_ENTRIES else LARGE for name, shape in shapes.items()}
    return {**usual, **{name: WordBound(bits) for name, bits in words.items()}}
