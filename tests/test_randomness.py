"""Counter-based random streams against SplitMix64's published outputs and the laws of chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hierfed.randomness import generator, keep_masks, permutations, ragged_bits, raw_bits, stream_keys, uniforms

MASK = 2**64 - 1
KEYS = np.array([1234567, 0, MASK, 99], np.uint64)
few = settings(max_examples=60, deadline=None)


def splitmix64(state: int, count: int) -> list[int]:
    """Vigna's public-domain splitmix64.c, in Python integers."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def test_raw_bits_are_splitmix64s_published_outputs():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert raw_bits(np.array([1234567], np.uint64), 5).tolist() == [published]


@few
@given(st.lists(st.integers(0, MASK), min_size=1, max_size=4), st.integers(0, 12))
def test_each_row_is_the_splitmix64_stream_of_its_key(states, count):
    bits = raw_bits(np.array(states, np.uint64), count)
    assert bits.tolist() == [splitmix64(state, count) for state in states]


@few
@given(st.integers(0, 50), st.integers(0, 50))
def test_bits_drawn_in_pieces_equal_the_whole(start, count):
    whole = raw_bits(KEYS, start + count)
    np.testing.assert_array_equal(raw_bits(KEYS, count, start), whole[:, start:])


@few
@given(st.integers(0, 70), st.integers(0, 70), st.sampled_from([0.1, 0.5, 0.8]))
def test_masks_drawn_in_pieces_equal_the_whole(start, count, drop):
    whole = keep_masks(KEYS, start + count + 9, drop)
    np.testing.assert_array_equal(keep_masks(KEYS, count, drop, start), whole[:, start : start + count])


def test_bits_do_not_change_the_keys_they_are_drawn_from():
    keys = KEYS.copy()
    raw_bits(keys, 3)
    permutations(keys, np.array([1, 2, 3, 4]))
    np.testing.assert_array_equal(keys, KEYS)


@pytest.mark.parametrize("drop", [0.05, 0.25, 0.5, 0.9])
def test_masks_keep_the_asked_share_of_units(drop):
    kept = keep_masks(stream_keys(3, 1, np.arange(8), "dropout"), 20_001, drop)
    low, high = stats.binom.interval(1 - 1e-6, kept.size, 1 - drop)
    assert low <= kept.sum() <= high
    # Every one of the four units that share a 64-bit number does so too.
    for lane in range(4):
        low, high = stats.binom.interval(1 - 1e-6, kept[:, lane::4].size, 1 - drop)
        assert low <= kept[:, lane::4].sum() <= high


def test_without_dropout_every_unit_is_kept():
    # So many that a mask which drops one unit in 2 ** 16 would show.
    assert keep_masks(stream_keys(0, 1, np.arange(50), "dropout"), 20_001, 0.0).all()


def test_masks_of_different_nodes_and_neighbouring_units_are_uncorrelated():
    kept = keep_masks(stream_keys(0, 1, np.arange(4), "dropout"), 40_000, 0.5).astype(float)
    between = np.corrcoef(kept)[np.triu_indices(4, 1)]
    neighbours = [np.corrcoef(kept[0, :-lag], kept[0, lag:])[0, 1] for lag in range(1, 9)]
    assert np.abs([*between, *neighbours]).max() < 5 / np.sqrt(40_000)


@few
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 1000))
def test_each_node_gets_a_permutation_of_its_own_length(lengths, seed):
    keys = stream_keys(seed, 1, np.arange(len(lengths)), "shuffle")
    orders = permutations(keys, np.array(lengths))
    assert orders.shape == (len(lengths), max(lengths))
    for order, length in zip(orders, lengths, strict=True):
        assert sorted(order[:length].tolist()) == list(range(length))


@few
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_nodes_permutation_does_not_depend_on_the_others(lengths, seed):
    keys = stream_keys(seed, 1, np.arange(len(lengths)), "shuffle")
    together = permutations(keys, np.array(lengths))
    for node, length in enumerate(lengths):
        alone = permutations(stream_keys(seed, 1, node, "shuffle"), np.array([length]))
        np.testing.assert_array_equal(together[node, :length], alone[0])


def test_permutations_of_three_are_uniform():
    keys = stream_keys(1, 1, np.arange(12_000), "shuffle")
    orders = permutations(keys, np.full(len(keys), 3))
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_keys_differ_by_seed_round_node_and_purpose():
    nodes = np.arange(20)
    keys = [stream_keys(*where[:2], nodes, where[2]) for where in itertools.product(range(8), range(8), "abc")]
    everything = np.concatenate(keys)
    assert len(np.unique(everything)) == len(everything) == 20 * 8 * 8 * 3


def test_keys_that_swap_seed_and_round_or_round_and_node_differ():
    assert stream_keys(1, 2, 3, "x") != stream_keys(2, 1, 3, "x")
    assert stream_keys(1, 2, 3, "x") != stream_keys(1, 3, 2, "x")


def test_a_nodes_key_does_not_depend_on_who_else_is_asked_for():
    together = stream_keys(5, 2, np.array([7, 0, 3]), "x")
    assert together.tolist() == [stream_keys(5, 2, node, "x")[0] for node in (7, 0, 3)]


def test_keys_stay_the_same_from_release_to_release():
    # From the text of the module: mix, xor the part, go on; here in Python integers.
    def mixed(state: int) -> int:
        return splitmix64((state - 0x9E3779B97F4A7C15) & MASK, 1)[0]

    # The first eight bytes of sha256(b"abc"), little-endian, as FIPS 180-2 gives them: ba7816bf 8f01cfea.
    purpose = int.from_bytes(bytes.fromhex("ba7816bf8f01cfea"), "little")
    key = 11
    for part in (purpose, 4, 2):
        key = mixed((key + 0x9E3779B97F4A7C15) & MASK) ^ part
    assert int(stream_keys(11, 4, 2, "abc")[0]) == mixed(key)


def test_generators_repeat_for_the_same_use_and_differ_for_another():
    draws = generator(1, 2, 3, "split").random(4)
    np.testing.assert_array_equal(draws, generator(1, 2, 3, "split").random(4))
    for other in ((2, 2, 3, "split"), (1, 1, 3, "split"), (1, 2, 4, "split"), (1, 2, 3, "partition")):
        assert not np.array_equal(draws, generator(*other).random(4))


def test_dropout_close_to_one_drops_every_unit():
    assert not keep_masks(np.arange(3, dtype=np.uint64), 8, 0.9999999).any()


@given(st.lists(st.tuples(st.integers(0, MASK), st.integers(0, 9)), max_size=8))
@few
def test_ragged_streams_are_those_of_the_matrix_cut_to_length(streams):
    keys = np.array([key for key, _ in streams], np.uint64)
    counts = np.array([count for _, count in streams], np.int64)
    whole = raw_bits(keys, 9)
    rows = [row[:count] for row, count in zip(whole, counts, strict=True)]
    assert ragged_bits(keys, counts).tolist() == [number for row in rows for number in row.tolist()]


def test_uniforms_are_between_0_and_1_and_even():
    ends = uniforms(np.array([0, MASK], np.uint64))
    assert 0 < ends[0] < 2**-50
    assert 1 - 2**-50 < ends[1] < 1
    assert stats.kstest(uniforms(raw_bits(KEYS, 5000)).flatten(), "uniform").pvalue > 0.01
