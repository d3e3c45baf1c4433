"""Random numbers that only their owner can foresee, for noise and for drawing batches.

Those of hierfed.randomness follow from the seed, which the server knows: it could take such noise off again. These are
the output of SHAKE-256 under a key. A simulation's key follows from its seed, so that runs repeat; a node of a real
federation needs a secret of its own.

Normal numbers are floats, made by Box and Muller's transform of 53 bits each. Differential privacy is proved for real
numbers: which floats can come out hangs a little on what noise was added to (Mironov, CCS 2012,
doi:10.1145/2382196.2382264), and no value is further out than 8.6 deviations. Both are beyond what accounting covers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

KEY_BYTES = 32


@dataclass(frozen=True)
class PrivateStreams:
    """All private streams of one owner. key: at least 32 bytes, unknown to all others."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            raise ValueError(f"a key of {len(self.key)} bytes can be guessed; expected {KEY_BYTES} at least")

    def stream(self, round_number: int, node: int, purpose: str) -> PrivateStream:
        """The stream of a node for one purpose in one round."""
        told = f"{round_number} {node} {purpose}".encode()
        return PrivateStream(hashlib.sha256(hashlib.sha256(self.key).digest() + told).digest())


class PrivateStream:
    """A stream of numbers; the same key and the same calls give the same numbers."""

    def __init__(self, key: bytes):
        self._key, self._calls = key, 0

    def uniform(self, count: int) -> np.ndarray:
        """Numbers within (0, 1), odd multiples of 2**-54: float64 [count]."""
        drawn: np.ndarray = (self._words(count) >> np.uint64(11)) * 2.0**-53 + 2.0**-54
        return drawn

    def integers(self, bound: int, count: int) -> np.ndarray:
        """Integers from 0 to bound - 1, each exactly as likely: int64 [count]; bound: at most 2**62."""
        if not 0 < bound <= 1 << 62:
            raise ValueError(f"integers below {bound}: expected 1 to 2**62")
        unused, found, missing = np.uint64(64 - max((bound - 1).bit_length(), 1)), [], count
        while missing:
            drawn = (self._words(2 * missing) >> unused).astype(np.int64)
            found.append(drawn[drawn < bound][:missing])
            missing -= len(found[-1])
        return np.concatenate([np.empty(0, np.int64), *found])

    def normal(self, count: int) -> np.ndarray:
        """Normal numbers of mean 0 and deviation 1: float64 [count]."""
        half = (count + 1) // 2
        drawn = self.uniform(2 * half)
        radius, angle = np.sqrt(-2 * np.log(drawn[:half])), 2 * np.pi * drawn[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def _words(self, count: int) -> np.ndarray:
        bits = hashlib.shake_256(self._key + self._calls.to_bytes(8, "little")).digest(8 * count)
        self._calls += 1
        return np.frombuffer(bits, "<u8")


def foreseeable_streams(seed: int) -> PrivateStreams:
    """The streams of a simulation, which follow from its seed: whoever knows the seed can take the noise off."""
    return PrivateStreams(hashlib.sha256(f"hierfed simulation {seed}".encode()).digest())
