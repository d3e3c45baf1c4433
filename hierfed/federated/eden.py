"""EDEN: a random rotation, after which one or two bits a number are enough.

    y = R x,  q_i = the level nearest to y_i D^1/2 / |y|,  sent: the levels and S = |y|^2 / <y, q>,  read: R^-1 S q

R: random signs and a Hadamard transform, twice, on blocks of D numbers. Rotated numbers are nearly normal, so the
levels are those of the normal distribution with the least squared error (Max, IRE Transactions on Information Theory,
1960). S leaves no part of the error along x, and the rest has any direction: the mean of what is read is x. So the
errors of many nodes, each with a rotation of its own, average out; the squared error of one is about .57 and .13 of
|x|^2 for 1 and 2 bits. The signs follow from (seed, round, node), so the server has them too.

Source: Vargaftik et al., ICML 2022, arXiv:2108.08842; with one bit it is DRIVE, NeurIPS 2021, arXiv:2105.08339. What is
read is not the sum of what is sent, so not under secure sums.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hierfed.federated.steps import Known, Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hierfed.federated.contract import Contribution

LEVELS = {1: (0.79788,), 2: (0.45278, 1.51042)}
"""The positive levels, by bits."""
# Arrays of fewer numbers are sent as they are; longer ones are rotated in blocks.
FEWEST, BLOCK = 64, 1024


@dataclass(frozen=True)
class Eden(Step):
    """A step that sends averaged arrays in `bits` bits a number; see Step. seed: of the rotations."""

    single: ClassVar[bool] = True
    # An array's error depends on its length.
    rounding: ClassVar[float] = math.inf

    bits: int
    averaged: Collection[str]
    seed: int = 0

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        """Scales, float32, and levels, a plane of bits after the other, of each array; see Step."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        arrays = dict(contribution.arrays)
        for name, array in arrays.items():
            if name not in self.averaged or array.numel() < FEWEST:
                continue
            signs = self._signs(array.numel(), known.shared.round + 1, node, name)
            rows = np.zeros(signs.shape[1:])
            rows.reshape(-1)[: array.numel()] = array.numpy().reshape(-1)
            rotated = _transformed(_transformed(rows * signs[0]) * signs[1])
            lengths = np.sqrt(np.square(rotated).sum(1, keepdims=True))
            levels = _levels(self.bits)
            normal = rotated * signs.shape[2] ** 0.5 / np.where(lengths > 0, lengths, 1)
            place = np.searchsorted((levels[1:] + levels[:-1]) / 2, normal)
            along = (rotated * levels[place]).sum(1)
            scales = lengths[:, 0] ** 2 / np.where(along > 0, along, 1)
            planes = [np.packbits(place >> bit & 1) for bit in range(self.bits)]
            packed = np.concatenate([scales.astype("<f4").view(np.uint8), *planes])
            arrays[name] = torch.from_numpy(packed)
        return Contribution(arrays)

    def on_arrival(self, sent: Contribution, alike: Contribution, asked: int, node: int) -> Contribution:
        """The arrays, rotated back; see Step."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        arrays = dict(sent.arrays)
        for name, like in alike.arrays.items():
            if name not in self.averaged or like.numel() < FEWEST:
                continue
            signs = self._signs(like.numel(), asked, node, name)
            count, size = signs.shape[1:]
            packed = arrays.get(name)
            if packed is None or packed.dtype != torch.uint8 or packed.shape != (count * (4 + self.bits * size // 8),):
                raise ValueError(f"'{name}' is not rotated and rounded to {self.bits} bits as agreed")
            scales = packed[: 4 * count].numpy().view("<f4").astype(np.float64)
            planes = np.unpackbits(packed[4 * count :].numpy()).reshape(self.bits, count, size)
            place = sum(planes[bit].astype(np.int64) << bit for bit in range(self.bits))
            rotated = scales[:, None] * _levels(self.bits)[place]
            rows = _transformed(_transformed(rotated) * signs[1]) * signs[0]
            arrays[name] = torch.from_numpy(rows.reshape(-1)[: like.numel()].reshape(tuple(like.shape)).copy())
        return Contribution(arrays)

    def _signs(self, entries: int, asked: int, node: int, name: str) -> NDArray[Any]:
        """The random signs of an array's rotation, [2, blocks, block]."""
        from hierfed.randomness import generator  # noqa: PLC0415 - NumPy

        size = min(BLOCK, 1 << (entries - 1).bit_length())
        # Opening rounds count from below 0, and streams from 0.
        random = generator(self.seed, asked % 2**64, node, f"rotation of {name}")
        signs: NDArray[Any] = 1.0 - 2.0 * random.integers(0, 2, (2, -(-entries // size), size))
        return signs


def _levels(bits: int) -> NDArray[np.float64]:
    """All levels, ascending."""
    import numpy as np  # noqa: PLC0415 - settings are checked without it

    positive = np.array(LEVELS[bits])
    return np.concatenate([-positive[::-1], positive])


def _transformed(rows: NDArray[Any]) -> NDArray[Any]:
    """The Hadamard transform of each row, [blocks, block], scaled to keep lengths; it is its own inverse."""
    count, size = rows.shape
    half = 1
    while half < size:
        pairs = rows.reshape(count, -1, 2, half)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        rows = _joined(first + second, first - second).reshape(count, size)
        half *= 2
    scaled: NDArray[Any] = rows / size**0.5
    return scaled


def _joined(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    import numpy as np  # noqa: PLC0415 - settings are checked without it

    return np.stack([first, second], 2)
