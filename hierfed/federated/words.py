"""Words of 16 or 8 bits: numbers are rounded at random to whole steps, and added modulo the words' range.

    word = floor(x / step + u) mod 2^bits,  u uniform in [0, 1),  step = most / 2^(bits - 1)

The mean of a rounded number is the number (stochastic rounding: Gupta et al., ICML 2015, arXiv:1502.02551). `most` is a
public limit of the total's entries, so the total alone has to fit, and no node's own values show in the steps. Words of
any number of nodes add up to a word of the same width, under secure sums too. The error of a total of m nodes has a
standard deviation of at most (m / 4)^1/2 steps.

A total that does not fit comes out wrong by multiples of 2^bits steps. Each node therefore sends the sum of its whole
numbers over each array too, modulo 2^32: the server compares, and refuses the total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hierfed.errors import HierfedError
from hierfed.federated.steps import Known, Limit, Step

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution

CHECK = "check"


def most_nodes(bits: int) -> int:
    """The number of nodes that words bear: a total's error, (nodes / 4)^1/2 steps, is at most 1/32 of its limit."""
    return int(4 ** (bits - 5))


@dataclass(frozen=True)
class Words(Step):
    """A step that sends arrays with limits in words of `bits` bits, or more where a limit asks for more; see Step.

    Arrays without limits stay as they are. seed: of the rounding.
    """

    # Each entry is off by a step of its own, which follows from its limit.
    rounding: ClassVar[float] = math.inf

    bits: int
    seed: int = 0

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        """The rounded arrays, and the check of each; see Step."""
        import torch  # noqa: PLC0415 - settings are checked without it

        from hierfed.federated.contract import Contribution  # noqa: PLC0415
        from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

        if known.method is not None:
            contribution = known.method.reduced(contribution, known.shared)
        # Opening rounds count from below 0, and streams from 0.
        random = generator(self.seed, (known.shared.round + 1) % 2**64, node, "rounding")
        arrays, checks = dict(contribution.arrays), []
        for name, limit in self._limits(contribution.arrays, known).items():
            array = arrays[name]
            drawn = torch.from_numpy(random.random(tuple(array.shape)))
            whole = (array / self._step(limit) + drawn).floor().to(torch.int64)
            checks.append(whole.sum())
            arrays[name] = _wrapped(whole, self._width(limit))
        if checks:
            arrays[CHECK] = _wrapped(torch.stack(checks), 32)
        return Contribution(arrays)

    def at_server(self, total: Contribution, known: Known) -> Contribution:
        """The numbers that words stand for; raises HierfedError for a total that does not fit. See Step."""
        import torch  # noqa: PLC0415 - settings are checked without it

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        arrays = dict(total.arrays)
        limits = self._limits(arrays, known)
        if limits:
            found = torch.stack([arrays[name].sum(dtype=torch.int64) for name in limits])
            wrong = [
                name for name, good in zip(limits, _wrapped(found, 32) == arrays.pop(CHECK), strict=True) if not good
            ]
            if wrong:
                raise HierfedError(
                    f"round {known.shared.round + 1}: the total of '{wrong[0]}' does not fit into words of "
                    f"{self._width(limits[wrong[0]])} bits: take wider ones in federation.steps, or none"
                )
        for name, limit in limits.items():
            arrays[name] = arrays[name].double() * self._step(limit)
        restored = Contribution(arrays)
        return restored if known.method is None else known.method.restored(restored, known.shared)

    def _limits(self, arrays: Mapping[str, Tensor], known: Known) -> dict[str, Limit]:
        return {name: known.limits[name] for name in sorted(arrays) if name in known.limits}

    def _width(self, limit: Limit) -> int:
        return max(self.bits, limit.bits)

    def _step(self, limit: Limit) -> Tensor:
        """The step of each entry; 1 where the limit is 0."""
        step = limit.most / 2 ** (self._width(limit) - 1)
        whole: Tensor = step.where(step > 0, step.new_ones(()))
        return whole


def _wrapped(whole: Tensor, bits: int) -> Tensor:
    """Whole numbers modulo 2^bits, as signed words."""
    import torch  # noqa: PLC0415 - settings are checked without it

    half, kinds = 1 << (bits - 1), {8: torch.int8, 16: torch.int16, 32: torch.int32}
    words: Tensor = ((whole + half) % (2 * half) - half).to(kinds[bits])
    return words
