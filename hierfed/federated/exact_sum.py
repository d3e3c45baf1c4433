"""The exact sum: whole multiples of one small step, which add to the same bits in any order and any grouping.

    number = whole * 2^-88,  whole = (limb 2) * 2^96 + (limb 1) * 2^48 + (limb 0),  |number| < 2^55

A node's number is rounded to a multiple once, and the sum of all to 64 bits, at the end. Between them nothing is
rounded, so a tree's edges and a star's server come to one total. Source: superaccumulators, Kulisch, Computer
Arithmetic and Validity, 2013; with one step for all numbers, as in secure sums.

Free of torch until it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError
from hierfed.federated.rules import Summed

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution

FRACTION_BITS, LIMB_BITS = 88, 48
LARGEST = 2.0**55
BYTES = 18
"""Of a number of a sum that is not rounded yet: 144 bits."""

_BASE = 1 << LIMB_BITS
# Below this a number has no highest limb.
_SMALL = 2.0 ** (2 * LIMB_BITS - FRACTION_BITS)
# Of fewer numbers than this share that are not 0, these alone are turned into limbs.
_FEW = 0.3
# So many limbs below 2^48 add up within 63 bits before their carries are passed on.
_MOST_ADDED = 1 << 14


@dataclass
class ExactTotal:
    """A sum that is not rounded yet. Arrays of words and of bytes add as they are.

    limbs: int64 [3, entries] for each float64 array, the lowest first.
    added: contributions since carries were passed on.
    """

    limbs: dict[str, Tensor]
    words: dict[str, Tensor]
    like: Contribution
    added: int = 1

    @classmethod
    def of(cls, contribution: Contribution) -> ExactTotal:
        """One contribution. Raises HierfedError for a number that is not finite, or too large."""
        import torch  # noqa: PLC0415 - settings are checked without it

        limbs: dict[str, Tensor] = {}
        words: dict[str, Tensor] = {}
        for name, each in contribution.arrays.items():
            if each.dtype == torch.float64:
                limbs[name] = torch.zeros((BYTES * 8 // LIMB_BITS, each.numel()), dtype=torch.int64)
                _add_limbs(name, each, limbs[name])
            else:
                words[name] = each.clone()
        return cls(limbs, words, contribution)

    def add_one(self, contribution: Contribution) -> None:
        """Add a contribution; raises HierfedError for a number that is not finite, or too large."""
        self.like.check_alike(contribution)
        if self.added + 1 > _MOST_ADDED:
            self.carry()
        for name, each in contribution.arrays.items():
            if name in self.limbs:
                _add_limbs(name, each, self.limbs[name])
            else:
                self.words[name].add_(each)
        self.added += 1

    def add(self, other: ExactTotal) -> None:
        """Add another sum."""
        self.like.check_alike(other.like)
        if self.added + other.added > _MOST_ADDED:
            self.carry()
            other.carry()
        for name, limbs in other.limbs.items():
            self.limbs[name].add_(limbs)
        for name, words in other.words.items():
            self.words[name].add_(words)
        self.added += other.added

    def carry(self) -> None:
        """Bring the limbs into their one canonical form: all but the highest are from 0 to 2^48."""
        self.limbs = {name: _carried(limbs) for name, limbs in self.limbs.items()}
        self.added = 1

    def rounded(self) -> Contribution:
        """The sum in 64 bits a number."""
        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        self.carry()
        arrays = {name: self.words[name] if name in self.words else self._number(name) for name in self.like.arrays}
        return Contribution(arrays)

    def sent(self) -> Contribution:
        """The sum as an edge sends it: of each float64 array uint8 [entries * BYTES], the lowest byte first.

        Raises HierfedError for a number that needs more bytes.
        """
        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        self.carry()
        return Contribution(
            {name: self.words[name] if name in self.words else self._bytes(name) for name in self.like.arrays}
        )

    @classmethod
    def arrived(cls, sent: Contribution, like: Contribution) -> ExactTotal:
        """The sum that an edge has sent. like: a contribution with the arrays that each of its nodes' must have.

        Raises ValueError for anything else.
        """
        import torch  # noqa: PLC0415 - settings are checked without it

        if sent.arrays.keys() != like.arrays.keys():
            raise ValueError(f"its sum holds {sorted(sent.arrays)}, expected {sorted(like.arrays)}")
        limbs: dict[str, Tensor] = {}
        words: dict[str, Tensor] = {}
        for name, each in like.arrays.items():
            found, exact = sent.arrays[name], each.dtype == torch.float64
            form = ((each.numel() * BYTES,), torch.uint8) if exact else (tuple(each.shape), each.dtype)
            if (tuple(found.shape), found.dtype) != form:
                raise ValueError(
                    f"'{name}' of its sum is {found.dtype} {tuple(found.shape)}, expected {form[1]} {form[0]}"
                )
            if exact:
                limbs[name] = _limbs_of(found)
            else:
                words[name] = found.clone()
        return cls(limbs, words, like)

    @property
    def nbytes(self) -> int:
        """Bytes of the sum as an edge sends it: BYTES a number, words as they are."""
        return BYTES * sum(each.shape[1] for each in self.limbs.values()) + sum(
            each.nbytes for each in self.words.values()
        )

    def _bytes(self, name: str) -> Tensor:
        import torch  # noqa: PLC0415 - settings are checked without it

        limbs = self.limbs[name]
        if bool((limbs[2] >> (LIMB_BITS - 1) != limbs[2] >> LIMB_BITS).any()):
            raise HierfedError(f"federation.rule 'exact_sum': a sum of '{name}' is not below {LARGEST:.0e}")
        # Each limb is 8 bytes in the machine's order, which is the lowest first wherever torch runs.
        parts = limbs.contiguous().view(torch.uint8).reshape(len(limbs), -1, 8)[..., : LIMB_BITS // 8]
        return parts.transpose(0, 1).reshape(-1)

    def _number(self, name: str) -> Tensor:
        limbs = self.limbs[name]
        # Of a sum below 0 the limbs of its negative: what is added here has one sign, so nothing cancels.
        sign = 1 - 2 * (limbs[2] < 0).to(limbs.dtype)
        low, middle, high = _carried(limbs * sign)
        whole = (high.double() * _BASE + middle.double()) * _BASE + low.double()
        number: Tensor = (whole * sign * 2.0**-FRACTION_BITS).reshape(self.like.arrays[name].shape)
        return number


@dataclass(frozen=True)
class ExactSum:
    """The exact sum of contributions, at a server that sees each of them; see Rule."""

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule."""
        total, sizes = exact_total(contributions)
        return Summed(total.rounded(), sizes)


EXACT_SUM = ExactSum()


def exact_total(contributions: Iterable[tuple[int, Contribution]]) -> tuple[ExactTotal, int]:
    """The sum before it is rounded, and the bytes of the contributions; raises ValueError if there is none."""
    total, sizes = None, 0
    for _, contribution in contributions:
        sizes += contribution.nbytes
        if total is None:
            total = ExactTotal.of(contribution)
        else:
            total.add_one(contribution)
    if total is None:
        raise ValueError("no node contributed")
    return total, sizes


def total_with(contributions: Iterable[tuple[int, Contribution]], sums: Iterable[ExactTotal]) -> ExactTotal:
    """The sum of contributions and of edges' sums; raises ValueError if there is none of either."""
    total, parts = None, list(sums)
    given = list(contributions)
    if given:
        total, _ = exact_total(given)
    elif parts:
        total = parts.pop(0)
    if total is None:
        raise ValueError("no node contributed")
    for other in parts:
        total.add(other)
    return total


def _limbs_of(sent: Tensor) -> Tensor:
    """The limbs of numbers as `ExactTotal.sent` writes them."""
    import torch  # noqa: PLC0415 - settings are checked without it

    parts = torch.zeros((BYTES * 8 // LIMB_BITS, sent.numel() // BYTES, 8), dtype=torch.uint8)
    parts[..., : LIMB_BITS // 8] = sent.reshape(-1, len(parts), LIMB_BITS // 8).transpose(0, 1)
    limbs = parts.view(torch.int64).squeeze(-1)
    limbs[2].sub_((limbs[2] >> (LIMB_BITS - 1)) << LIMB_BITS)
    return limbs


def _carried(limbs: Tensor) -> Tensor:
    limbs = limbs.clone()
    for place in (0, 1):
        over = limbs[place] >> LIMB_BITS
        limbs[place].sub_(over << LIMB_BITS)
        limbs[place + 1].add_(over)
    return limbs


def _add_limbs(name: str, array: Tensor, total: Tensor) -> None:
    """Add the limbs of an array's numbers to a total, int64 [3, entries]."""
    numbers = array.reshape(-1)
    if not len(numbers):
        return
    low, high = numbers.aminmax()
    if not max(-float(low), float(high)) < LARGEST or math.isnan(float(low)):
        raise HierfedError(
            f"federation.rule 'exact_sum': a number of '{name}' is not finite, or not below {LARGEST:.0e}: a training "
            "that diverges takes a lower training.learning_rate"
        )
    small = max(-float(low), float(high)) < _SMALL
    if int(numbers.count_nonzero()) < _FEW * len(numbers):
        places = numbers.nonzero().squeeze(1)
        for limb, values in zip(total, _limbs(numbers[places], small), strict=False):
            limb.index_add_(0, places, values)
    else:
        for limb, values in zip(total, _limbs(numbers, small), strict=False):
            limb.add_(values)


def _limbs(numbers: Tensor, small: bool) -> list[Tensor]:
    """The limbs of numbers, the lowest first. small: without the highest, which is 0."""
    import torch  # noqa: PLC0415 - settings are checked without it

    # Products with powers of two, and what is left of a number without its upper bits, are exact.
    rest, whole = numbers, list[torch.Tensor]()
    for step in (1 / _SMALL, _BASE / _SMALL)[small:]:
        limb = (rest * step).trunc_()
        rest = torch.add(rest, limb, alpha=-1 / step)
        whole.insert(0, limb.to(torch.int64))
    return [(rest * 2.0**FRACTION_BITS).round_().to(torch.int64), *whole]
