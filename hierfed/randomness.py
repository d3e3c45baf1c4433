"""Random numbers that depend only on (seed, round, node, purpose), never on who else runs or in what order.

Every stream is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) used as a counter: number j of the stream with key k
is mix(k + (j + 1) * GOLDEN). So the streams of many nodes are drawn at once, as rows of one matrix, and a node
alone on its own machine draws the same row. The generator is fast and well mixed, and not for cryptography.
"""

from __future__ import annotations

import hashlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_LANES = 4


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, in place on a uint64 array."""
    scratch = state >> np.uint64(30)
    state ^= scratch
    state *= _FIRST
    np.right_shift(state, np.uint64(27), out=scratch)
    state ^= scratch
    state *= _SECOND
    np.right_shift(state, np.uint64(31), out=scratch)
    state ^= scratch
    return state


def stream_keys(seed: int, round_number: int, nodes: np.ndarray | int, purpose: str) -> np.ndarray:
    """The keys of the nodes' streams for one purpose in one round: uint64, the shape of `nodes` (at least 1-d)."""
    name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    keys = np.full(np.atleast_1d(nodes).shape, np.uint64(seed % 2**64))
    for part in (np.uint64(name), np.uint64(round_number), np.atleast_1d(nodes).astype(np.uint64)):
        keys += GOLDEN
        keys = _mix(keys) ^ part
    return _mix(keys)


def raw_bits(keys: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Numbers `start` to `start + count` of each stream: uint64 [keys, count]."""
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * GOLDEN
    return _mix(keys[:, None] + steps[None, :])


def ragged_bits(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The first counts[k] numbers of stream k, one stream after the other: uint64 [sum of counts]."""
    ends = np.cumsum(counts)
    steps = np.arange(1, int(ends[-1]) + 1 if len(ends) else 1) - np.repeat(ends - counts, counts)
    state = steps.astype(np.uint64) * GOLDEN
    state += np.repeat(keys, counts)
    return _mix(state)


def uniforms(bits: np.ndarray) -> np.ndarray:
    """Numbers between 0 and 1, neither of them included: float64, the shape of `bits`."""
    drawn: np.ndarray = ((bits >> np.uint64(12)) + 0.5) * 2.0**-52
    return drawn


def keep_masks(keys: np.ndarray, count: int, drop: float, start: int = 0) -> np.ndarray:
    """Dropout masks, True where a unit is kept, for units `start` to `start + count`: bool [keys, count].

    Each unit takes a quarter of a 64-bit number, so `drop` is met to 2**-16.
    """
    first, skip = divmod(start, _LANES)
    words = raw_bits(keys, -(-(skip + count) // _LANES), first)
    return words.view(np.uint16)[:, skip : skip + count] >= np.uint16(min(round(drop * 2**16), 2**16 - 1))


def permutations(keys: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A random order of each node's rows: int64 [keys, longest]; row k begins with a permutation of lengths[k]."""
    longest = int(lengths.max(initial=0))
    draws = raw_bits(keys, longest)
    draws[np.arange(longest)[None, :] >= lengths[:, None]] = np.iinfo(np.uint64).max
    return np.argsort(draws, axis=1, kind="stable")


def generator(seed: int, round_number: int, node: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for work that is no hot path (splits, partitions, initial weights)."""
    return np.random.Generator(np.random.Philox(key=int(stream_keys(seed, round_number, node, purpose)[0])))
