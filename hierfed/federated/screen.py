"""The screen: nodes whose contributions cannot be those of honest users like the others' are left out, whole.

A sum over users can only be added, so that no median can take its place. But what is left out whole is a smaller
federation, which every method can learn from. A method may know better what its sums can be: see
`Screened`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError
from hierfed.federated.rules import Rule, Summed

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution, SharedModel, SumMethod

# Nodes may lie this many robust standard deviations from the median, and in any case this far from it: in the log of a
# size, and in the cosine to the sum of the others.
DEVIATIONS, SIZE_FLOOR, COSINE_FLOOR = 6.0, 1.2, 0.15
LEAST = 3
NONE: Mapping[str, str] = MappingProxyType({})


Screened = Callable[["SharedModel", Sequence["Contribution"]], "list[Contribution]"]
"""The contributions to the next round that are added, after what no honest node could add is taken out.

A method that knows what honest nodes can send has this as `screened`.
"""


@dataclass(frozen=True)
class Screen:
    """The sum of the contributions that pass; see Rule and MethodRule.

    averaged: see alike_in_direction. screened: the method's own; None where it has none. shared: of the round; None
    before `of`.
    """

    averaged: Mapping[str, str] = field(default_factory=dict)
    screened: Screened | None = None
    shared: SharedModel | None = None

    def of(self, method: SumMethod, shared: SharedModel) -> Rule:
        """See MethodRule."""
        return replace(self, screened=getattr(method, "screened", None), shared=shared)

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule; raises HierfedError with fewer than 3 nodes, of which none is outside the others."""
        from hierfed.federated.contract import ordered_sum  # noqa: PLC0415 - settings are checked without torch

        given = [contribution for _, contribution in contributions]
        sizes = sum(each.nbytes for each in given)
        if len(given) < LEAST:
            raise HierfedError(
                f"federation.rule 'screen': needs {LEAST} nodes or more, and there are {len(given)}: take more, or the "
                "rule 'sum'"
            )
        if self.screened is None or self.shared is None:
            alike = alike_in_direction(given, self.averaged)
            passed = [each for each, passes in zip(given, alike, strict=True) if passes]
        else:
            passed = self.screened(self.shared, given)
        return Summed(ordered_sum(passed), sizes)


def alike_in_direction(given: Sequence[Contribution], averaged: Mapping[str, str] = NONE) -> list[bool]:
    """For each contribution, True where it has about the size and the direction of the others, array by array.

    averaged: the arrays that are compared as means, each with the array that weighs it. Nodes of many sizes have means
    of about one size, so that a lie stands out that would hide among their sums.
    """
    import torch  # noqa: PLC0415 - settings are checked without it

    alike = torch.ones(len(given), dtype=torch.bool)
    for name in given[0].arrays:
        values = torch.stack([each.arrays[name].flatten() for each in given])
        if name in averaged and given[0].arrays[averaged[name]].numel() == 1:
            weights = torch.stack([each.arrays[averaged[name]].flatten() for each in given])
            values = torch.where(weights > 0, values / weights, values)
        norms = values.norm(dim=1)
        alike &= within(norms.clamp_min(1e-300).log(), SIZE_FLOOR)
        # Each node's direction is the median's, value by value, which liars cannot turn; of few values it says little.
        middle = values.median(0).values if len(given) < 32 else values.mean(0)
        cosines = values @ middle / (norms * middle.norm()).clamp_min(1e-300)
        alike &= within(cosines, COSINE_FLOOR, above=False)
    return list(alike.tolist())


def within(values: Tensor, floor: float, above: bool = True) -> Tensor:
    """For each of the nodes' values [nodes], True where it lies near their median.

    floor: the least distance that counts as far. above: whether values far above the median are far too.
    """
    apart = values - values.median()
    limit = max(floor, DEVIATIONS * 1.4826 * float(apart.abs().median()))
    return (apart.abs() if above else -apart) <= limit
