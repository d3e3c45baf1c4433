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
    averaged: the arrays that are combined so, each with the array that weighs it: one weight for the whole array, or
    one for each of its rows. Every node counts alike, since a liar would lie about its weight too; the centre is
    multiplied by the sum of the weights, so that it stands in the place of a sum. Nodes without weight have no mean and
    do not count. In a row that a node has no weight of, it takes the place of the median of those that have, so that it
    has no vote. All other arrays are added.
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
        one = {weight for weight in names.values() if total.arrays[weight].numel() == 1}
        counted = [each for each in given if all(bool(each.arrays[weight] > 0) for weight in one)]
        parts = [
            _means(
                torch.stack([each.arrays[name] for each in counted]),
                torch.stack([each.arrays[weight] for each in counted]),
            )
            for name, weight in names.items()
            if counted
        ]
        try:
            centre = self.centre(torch.cat(parts, 1) if parts else torch.empty(0, 0), int(self.share * len(given)))
        except ValueError as error:
            raise HierfedError(f"federation.rule '{self.name}': {error}") from error
        weights = ordered_sum(counted).arrays
        pieces = torch.split(centre, [total.arrays[name].numel() for name in names])
        arrays = dict(total.arrays)
        for (name, weight), piece in zip(names.items(), pieces, strict=True):
            like = weights[name]
            arrays[name] = _beside(total.arrays[weight], like) * piece.view_as(like)
        return Summed(Contribution(arrays), sizes)


def _means(values: Tensor, weights: Tensor) -> Tensor:
    """Each node's means, [nodes, numbers]; values: [nodes, ...], weights: [nodes, 1] or [nodes, rows]."""
    import torch  # noqa: PLC0415 - settings are checked without it

    weighed = _beside(weights, values)
    if weights[0].numel() == 1:
        return (values / weighed).flatten(1)
    means = torch.where(weighed > 0, values / weighed, torch.nan)
    # Rows that nobody has are 0: their weights are too.
    middle = torch.nanquantile(means, 0.5, dim=0).nan_to_num(0.0)
    return torch.where(means.isnan(), middle, means).flatten(1)


def _beside(weights: Tensor, values: Tensor) -> Tensor:
    """The weights with the dimensions of the values that they weigh."""
    return weights.reshape(*weights.shape, *(1,) * (values.dim() - weights.dim()))
