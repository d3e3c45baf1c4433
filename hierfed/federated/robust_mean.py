"""Rules that put a robust mean of the nodes' values in the place of a sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError
from hierfed.federated.rules import Summed

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution

Centre = Callable[["Tensor", int], "Tensor"]
"""Gives the centre [numbers] of values [nodes, numbers] of which so many may be lies.

Raises ValueError, with the reason and the remedy, where there are too few nodes.
"""


@dataclass(frozen=True)
class RobustMean:
    """A rule that lying nodes, up to a share, cannot move far; see Rule.

    name: of the rule, for messages. centre: of the nodes' means.
    share: of the nodes that may lie; rounded down to whole nodes.
    averaged: the arrays that are combined so, each with the array that weighs it. Every node counts alike, since a liar
    would lie about its weight too; the centre is multiplied by the sum of the weights, so that it stands in the place
    of a sum. Nodes without weight have no mean and do not count. All other arrays are added.
    """

    name: str
    centre: Centre
    share: float
    averaged: Mapping[str, str]

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule; raises HierfedError where there are too few nodes for the share."""
        import torch  # noqa: PLC0415 - settings are checked without it

        from hierfed.federated.contract import Contribution, ordered_sum  # noqa: PLC0415 - torch

        given = [contribution for _, contribution in contributions]
        total, sizes = ordered_sum(given), sum(each.nbytes for each in given)
        names = {name: weight for name, weight in self.averaged.items() if name in total.arrays}
        if not names:
            return Summed(total, sizes)
        counted = [each for each in given if all((each.arrays[weight] > 0).all() for weight in names.values())]
        rows = [
            torch.cat([(each.arrays[name] / each.arrays[weight]).flatten() for name, weight in names.items()])
            for each in counted
        ]
        try:
            centre = self.centre(torch.stack(rows) if rows else torch.empty(0, 0), int(self.share * len(given)))
        except ValueError as error:
            raise HierfedError(f"federation.rule '{self.name}': {error}") from error
        weights = ordered_sum(counted).arrays
        pieces = torch.split(centre, [total.arrays[name].numel() for name in names])
        arrays = dict(total.arrays)
        for (name, weight), piece in zip(names.items(), pieces, strict=True):
            arrays[name] = total.arrays[weight] * piece.view_as(weights[name])
        return Summed(Contribution(arrays), sizes)
