"""The exact sum: whole multiples of one small step, which add to the same bits in any order and any grouping.

    number = whole * 2^-88,  whole = (limb 2) * 2^96 + (limb 1) * 2^48 + (limb 0),  |number| < 2^55

A node's number is rounded to a multiple once, and the sum of all to 64 bits, at the end. Between them nothing is
rounded, so a tree's edges and a star's server come to one total. Source: superaccumulators, Kulisch, Computer
Arithmetic and Validity, 2013; with one step for all numbers, as in secure sums.

Free of torch until it is used.
"""

from __future__ import annotations

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

        numbers = {name: each for name, each in contribution.arrays.items() if each.dtype == torch.float64}
        words = {name: each.clone() for name, each in contribution.arrays.items() if name not in numbers}
        return cls({name: _limbs(name, each) for name, each in numbers.items()}, words, contribution)

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
        found = ExactTotal.of(contribution)
        if total is None:
            total = found
        else:
            total.add(found)
    if total is None:
        raise ValueError("no node contributed")
    return total, sizes


def total_with(contributions: Iterable[tuple[int, Contribution]], sums: Iterable[ExactTotal]) -> ExactTotal:
    """The sum of contributions and of edges' sums; raises ValueError if there is none of either."""
    parts = [*(ExactTotal.of(contribution) for _, contribution in contributions), *sums]
    if not parts:
        raise ValueError("no node contributed")
    for other in parts[1:]:
        parts[0].add(other)
    return parts[0]


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


def _limbs(name: str, array: Tensor) -> Tensor:
    import torch  # noqa: PLC0415 - settings are checked without it

    if not bool((array.abs() < LARGEST).all()):
        raise HierfedError(
            f"federation.rule 'exact_sum': a number of '{name}' is not finite, or not below {LARGEST:.0e}: a training "
            "that diverges takes a lower training.learning_rate"
        )
    # Products with powers of two, and what is left of a division by one, are exact.
    scaled = array.reshape(-1) * 2.0**FRACTION_BITS
    high = (scaled / 2.0 ** (2 * LIMB_BITS)).trunc()
    rest = scaled - high * 2.0 ** (2 * LIMB_BITS)
    middle = (rest / 2.0**LIMB_BITS).trunc()
    low = (rest - middle * 2.0**LIMB_BITS).round()
    return torch.stack([low, middle, high]).to(torch.int64)
