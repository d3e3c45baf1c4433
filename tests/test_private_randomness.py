"""Private streams are a standard function's output, spread as they should be, and nobody's who lacks the key."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from hierfed.private_randomness import PrivateStreams, foreseeable_streams

KEY = bytes(range(32))


def test_uniform_numbers_are_the_bits_of_shake_256():
    inner = hashlib.sha256(hashlib.sha256(KEY).digest() + b"3 7 noise").digest()
    stream = PrivateStreams(KEY).stream(3, 7, "noise")
    for call in range(2):
        bits = hashlib.shake_256(inner + bytes([call]) + bytes(7)).digest(40)
        words = [int.from_bytes(bits[8 * k : 8 * k + 8], "little") for k in range(5)]
        assert stream.uniform(5).tolist() == [(word >> 11) / 2**53 + 2.0**-54 for word in words]


def test_uniform_numbers_are_uniform():
    drawn = PrivateStreams(KEY).stream(1, 0, "noise").uniform(50_000)
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert 0 < drawn.min() < drawn.max() < 1


def test_normal_numbers_are_normal_and_independent():
    drawn = PrivateStreams(KEY).stream(1, 0, "noise").normal(50_000)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    for first, second in ((drawn[:25_000], drawn[25_000:]), (drawn[:-1], drawn[1:])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))
        assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4 / np.sqrt(len(first))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_normals_can_be_drawn(count):
    drawn = PrivateStreams(KEY).stream(1, 0, "noise").normal(count)
    assert drawn.shape == (count,)
    assert np.isfinite(drawn).all()


def test_every_key_round_node_and_purpose_has_a_stream_of_its_own():
    streams = [
        PrivateStreams(key).stream(*place)
        for key in (KEY, KEY[::-1])
        for place in ((1, 0, "noise"), (0, 1, "noise"), (1, 0, "batches"), (1, 10, "noise"), (11, 0, "noise"))
    ]
    assert len({float(stream.uniform(1)[0]) for stream in streams}) == 10


def test_a_simulations_streams_repeat_and_follow_from_its_seed():
    first, again, other = (foreseeable_streams(seed).stream(1, 0, "noise").normal(4) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_keys_that_can_be_guessed_are_refused():
    with pytest.raises(ValueError, match="31 bytes can be guessed"):
        PrivateStreams(bytes(31))


def test_a_key_is_not_printed():
    assert repr(KEY) not in repr(PrivateStreams(KEY))
