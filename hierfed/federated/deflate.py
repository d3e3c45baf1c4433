"""Lossless compression of what a node sends: zeros of items that it has not seen, and the even parts of words.

Source: deflate, RFC 1951. The length of what is sent tells a little more of a node than its numbers do, and a sum of
compressed contributions means nothing: so not under secure sums.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hierfed.federated.steps import Known, Step

if TYPE_CHECKING:
    from hierfed.federated.contract import Contribution

PACKED = "packed"


@dataclass(frozen=True)
class Deflate(Step):
    """A step that sends all arrays of a contribution as one string of bytes; see Step. level: of zlib, up to 9."""

    single: ClassVar[bool] = True
    level: int = 9

    def at_node(self, contribution: Contribution, known: Known, node: int) -> Contribution:
        """The arrays in the order of their names, byte plane by byte plane, compressed; see Step."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        planes = []
        for _, array in sorted(contribution.arrays.items()):
            flat = array.contiguous().numpy().reshape(-1)
            planes.append(np.ascontiguousarray(flat.view(np.uint8).reshape(-1, array.element_size()).T).tobytes())
        data = zlib.compress(b"".join(planes), self.level)
        return Contribution({PACKED: torch.frombuffer(bytearray(data), dtype=torch.uint8)})

    def on_arrival(self, sent: Contribution, alike: Contribution, asked: int, node: int) -> Contribution:
        """The arrays; see Step. No more is unpacked than they can hold."""
        import numpy as np  # noqa: PLC0415 - settings are checked without it
        import torch  # noqa: PLC0415

        from hierfed.federated.contract import Contribution  # noqa: PLC0415

        packed = sent.arrays.get(PACKED)
        if packed is None or len(sent.arrays) != 1 or packed.dtype != torch.uint8:
            raise ValueError("is not compressed as agreed")
        try:
            data = zlib.decompressobj().decompress(packed.numpy().tobytes(), alike.nbytes + 1)
        except zlib.error as error:
            raise ValueError(f"cannot be unpacked: {error}") from error
        if len(data) != alike.nbytes:
            raise ValueError(f"unpacks to other than the {alike.nbytes} bytes of its arrays")
        arrays, begin = {}, 0
        for name, like in sorted(alike.arrays.items()):
            planes = np.frombuffer(data, np.uint8, like.nbytes, begin).reshape(like.element_size(), -1)
            values = np.ascontiguousarray(planes.T).reshape(-1).view(like.numpy().dtype)
            arrays[name] = torch.from_numpy(values.reshape(tuple(like.shape)).copy())
            begin += like.nbytes
        return Contribution(arrays)
