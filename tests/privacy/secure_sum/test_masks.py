import numpy as np
import pytest
import torch
from scipy.stats import chi2

from hierfed.federated.contract import Contribution
from hierfed.privacy.secure_sum.agreement import derive, seal, self_mask_key
from hierfed.privacy.secure_sum.encoding import Bound
from hierfed.privacy.secure_sum.streams import MaskStream

# Each test looks at a few dozen statistics: together they would fail by chance once in ten million seeds.
RARE = 1e-9
LENGTH = 20_000


def byte_statistics(words):
    """Chi-square of each of the eight bytes of 64-bit words against uniform ones."""
    digits = words.view(np.uint8).reshape(-1, 8)
    counts = np.stack([np.bincount(digits[:, place], minlength=256) for place in range(8)])
    expected = len(digits) / 256
    return ((counts - expected) ** 2 / expected).sum(1)


def assert_uniform(words):
    assert byte_statistics(words).max() < chi2.isf(RARE, 255)
    ones = np.unpackbits(words.view(np.uint8)).reshape(-1, 64).sum(0)
    assert np.abs(ones - len(words) / 2).max() < 7 * np.sqrt(len(words)) / 2


def blocks(value, seed=None):
    def filled(*shape):
        drawn = np.full(shape, value) if seed is None else np.random.default_rng(seed).uniform(-value, value, shape)
        return torch.from_numpy(drawn.astype(np.float64))

    return Contribution({"narrow": filled(LENGTH), "wide": filled(LENGTH // 2)})


WIDE = {"narrow": Bound(8.0), "wide": Bound(8.0, 1e-25)}


def masked(stepped):
    """Each node's masked vector, uint64, as the server gets it."""
    inboxes = stepped.inboxes()
    return {
        node: np.frombuffer(client.mask(inboxes[node]).vector, "<u8").copy() for node, client in stepped.clients.items()
    }


def test_the_stream_is_chacha20():
    # RFC 8439, appendix A.1, test vector 1: key, nonce and counter all zero.
    expected = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )
    assert MaskStream(8).expand(bytes(32)).tobytes() == expected
    long = MaskStream(30_000).expand(bytes(32))
    assert long[:8].tobytes() == expected
    assert len(np.unique(long)) == len(long)


def test_keys_have_256_bits():
    with pytest.raises(ValueError, match="31 bytes"):
        MaskStream(8).expand(bytes(31))
    # Every bit of the key counts.
    stream = MaskStream(2)
    made = {stream.expand((1 << bit).to_bytes(32, "little")).tobytes() for bit in range(256)}
    assert len(made) == 256


def test_derived_keys_differ_where_anything_does():
    made = [
        derive(secret, session, purpose, *nodes)
        for secret in (b"1" * 32, b"2" * 32)
        for session in (b"s" * 32, b"t" * 32)
        for purpose in ("box", "pair mask")
        for nodes in ((1, 2), (2, 1), (1,), ())
    ]
    assert len(set(made)) == len(made) == 32
    assert {len(key) for key in made} == {32}


def test_no_two_boxes_of_a_pair_share_a_keystream():
    # The nonce is fixed, so the same key in both directions, or in two rounds, would give the sum of two plain texts.
    pairs, sessions = [(1, 2), (2, 1)], [b"s" * 32, b"t" * 32]
    bodies = [seal(b"k" * 32, session, b"v" * 32, *pair, bytes(64))[:64] for session in sessions for pair in pairs]
    assert len(set(bodies)) == 4


@pytest.mark.parametrize("value", [0.0, 8.0])
def test_masked_vectors_are_uniform_whatever_is_in_them(make_round, value):
    stepped = make_round(3, contributions={node: blocks(value) for node in range(3)}, bounds=WIDE)
    for vector in masked(stepped).values():
        assert len(vector) == 2 * LENGTH
        assert_uniform(vector[:LENGTH])
        assert_uniform(vector[LENGTH:])


def test_the_test_of_uniformity_sees_what_is_not_masked(make_round):
    encoding = make_round(3, contributions={node: blocks(8.0, seed=node) for node in range(3)}, bounds=WIDE).setup
    vector = encoding.encoding.encode(blocks(8.0, seed=1))
    with pytest.raises(AssertionError):
        assert_uniform(vector[:LENGTH])


def test_pairwise_masks_hide_what_self_masks_no_longer_do(make_round):
    # The server learns the survivors' seeds; any sum but that of all of them must stay hidden.
    stepped = make_round(4, contributions={node: blocks(0.0) for node in range(4)}, bounds=WIDE)
    seeds = {node: client._seed for node, client in stepped.clients.items()}
    vectors, ring = masked(stepped), stepped.setup.encoding.ring
    stream = MaskStream(ring.words)
    total = ring.zeros()
    for node, vector in vectors.items():
        assert not np.array_equal(vector, total)
        ring.subtract(vector, stream.expand(self_mask_key(seeds[node], stepped.setup.session, node)))
        assert_uniform(vector)
        ring.add(total, vector)
        if node < 3:
            assert_uniform(total)
    assert not total.any()


def test_a_self_mask_hides_what_pairwise_masks_no_longer_do(make_round):
    # A vector that comes after the node was declared dropped, and its mask key rebuilt.
    stepped = make_round(2, contributions={node: blocks(0.0) for node in range(2)}, bounds=WIDE)
    vectors, ring = masked(stepped), stepped.setup.encoding.ring
    total = ring.zeros()
    for vector in vectors.values():
        ring.add(total, vector)
    assert_uniform(total)


@pytest.mark.parametrize("change", [{"draws": 1}, {"round_id": b"training 1, round 2"}])
def test_two_rounds_share_no_mask(make_round, change):
    # With new keys, or with the very same ones (which a broken source of randomness would give) in another round.
    contributions = {node: blocks(1.0) for node in range(3)}
    first, second = (make_round(3, contributions=contributions, bounds=WIDE, **how) for how in ({}, change))
    ring = first.setup.encoding.ring
    earlier, later = masked(first), masked(second)
    for vector in earlier.values():
        for other in later.values():
            difference = vector.copy()
            ring.subtract(difference, other)
            assert_uniform(difference)


def test_the_same_round_is_the_same_to_the_byte(make_round):
    contributions = {node: blocks(1.0) for node in range(3)}
    first, second = (masked(make_round(3, contributions=contributions, bounds=WIDE)) for _ in range(2))
    assert all(np.array_equal(first[node], second[node]) for node in first)
