"""The largest numbers of each array; what is left out is added to the next round's (error feedback).

    p = x + e,  sent: the k entries of p with the largest |p_i|, and where they are,  e = p - what is read of it

Nothing is lost, it only comes later. k is a sixteenth of the entries; a value takes 32 bits, and every entry one bit
that says whether it is sent.

Source: sparsified SGD with memory, Stich, Cordonnier and Jaggi, NeurIPS 2018, arXiv:1809.07599. Each node sends
entries of its own, so not under secure sums.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hierfed.federated.steps import NOTHING, Known, Step

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.federated.contract import Contribution

SHARE = 16
# Arrays of fewer numbers are sent as they are.
FEWEST = 64


@dataclass(frozen=True)
class TopK(Step):
    """A step that sends one entry of SHARE of each averaged array; the node keeps the rest. See Step."""

    single: ClassVar[bool] = True
    # What is left out of a round has no bound.
    rounding: ClassVar[float] = math.inf

    averaged: Collection[str]

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        """The contribution of a node without a memory; see Step."""
        return self.with_memory(contribution, known, node, NOTHING)[0]

    def with_memory(
        self, contribution: Contribution, known: Known, node: int, kept: Mapping[str, Tensor]
    ) -> tuple[Contribution, Mapping[str, Tensor]]:
        """The bits of the places and the values, float32, of each array; the node keeps what is left. See Step."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        arrays, left = dict(contribution.arrays), dict(kept)
        for name, array in arrays.items():
            if name not in self.averaged or array.numel() < FEWEST:
                continue
            wanted = array.numpy().reshape(-1)
            if name in kept:
                wanted = wanted + kept[name].numpy()
            chosen = np.sort(np.argsort(-np.abs(wanted), kind="stable")[: _chosen(len(wanted))])
            places, values = np.zeros(len(wanted), np.uint8), wanted[chosen].astype("<f4")
            places[chosen] = 1
            arrays[name] = torch.from_numpy(np.concatenate([np.packbits(places), values.view(np.uint8)]))
            rest = wanted.copy()
            rest[chosen] -= values
            left[name] = torch.from_numpy(rest)
        return Contribution(arrays), left

    def on_arrival(self, sent: Contribution, alike: Contribution, asked: int, node: int) -> Contribution:
        """The arrays, with zeros where nothing was sent; see Step."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        arrays = dict(sent.arrays)
        for name, like in alike.arrays.items():
            entries = like.numel()
            if name not in self.averaged or entries < FEWEST:
                continue
            packed, bits, count = arrays.get(name), -(-entries // 8), _chosen(entries)
            if packed is None or packed.dtype != torch.uint8 or packed.shape != (bits + 4 * count,):
                raise ValueError(f"'{name}' does not hold {count} entries as agreed")
            places = np.unpackbits(packed[:bits].numpy(), count=entries).astype(bool)
            if places.sum() != count:
                raise ValueError(f"'{name}' says of other than {count} entries that they are sent")
            values = np.zeros(entries)
            values[places] = np.frombuffer(packed[bits:].numpy().tobytes(), "<f4")
            arrays[name] = torch.from_numpy(values.reshape(tuple(like.shape)))
        return Contribution(arrays)


def _chosen(entries: int) -> int:
    """The number of entries that are sent, of so many."""
    return -(-entries // SHARE)
