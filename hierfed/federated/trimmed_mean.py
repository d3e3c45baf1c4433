"""The trimmed mean: of each value, the largest and the smallest of the nodes' are left out.

Source: Yin et al., Byzantine-Robust Distributed Learning, ICML 2018, arXiv:1803.01498.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hierfed.errors import HierfedError
from hierfed.federated.rules import Summed

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution


@dataclass(frozen=True)
class TrimmedMean:
    """A rule that a share of lying nodes, up to `share`, cannot move far; see Rule.

    share: of the nodes that is left out at each end, value by value; rounded down to whole nodes.
    averaged: the arrays that are combined so, each with the array that weighs it. Every node counts alike; the mean is
    multiplied by the sum of the weights, so that it stands in the place of a sum. All other arrays are added.
    """

    share: float
    averaged: Mapping[str, str]

    def __call__(self, contributions: Iterable[tuple[int, Contribution]]) -> Summed:
        """See Rule; raises HierfedError where the share leaves no node out."""
        from hierfed.federated.contract import Contribution, ordered_sum  # noqa: PLC0415 - torch

        given = [contribution for _, contribution in contributions]
        total, sizes = ordered_sum(given), sum(each.nbytes for each in given)
        left_out = int(self.share * len(given))
        if not left_out:
            raise HierfedError(
                f"federation.rule 'trimmed_mean': a share of {self.share:g} leaves none of {len(given)} nodes out: "
                "raise federation.rule_share, or take more nodes"
            )
        arrays = dict(total.arrays)
        for name, weight in self.averaged.items():
            if name in arrays:
                means = [each.arrays[name] / each.arrays[weight] for each in given]
                arrays[name] = total.arrays[weight] * _trimmed_mean(means, left_out)
        return Summed(Contribution(arrays), sizes)


def _trimmed_mean(values: list[Tensor], left_out: int) -> Tensor:
    import torch  # noqa: PLC0415 - settings are checked without it

    ordered = torch.stack(values).sort(dim=0).values
    return ordered[left_out : len(values) - left_out].mean(0)
