import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed.privacy.secure_sum.messages import (
    KINDS,
    Advertisement,
    Box,
    Consent,
    Consents,
    Inbox,
    MaskedInput,
    Roster,
    SealedShares,
    Share,
    Survivors,
    Unmasking,
    consent_text,
    decode,
    decode_as,
    encode,
)
from hierfed.privacy.secure_sum.refusals import Refused
from hierfed.privacy.secure_sum.shamir import PRIME, SHARE_BYTES

DIGEST = st.binary(min_size=32, max_size=32)
NODE = st.integers(0, 2**64 - 1)
NODES = st.lists(NODE, max_size=4, unique=True).map(sorted)
BYTES = st.binary(max_size=80)
SHARE = st.integers(0, PRIME - 1).map(lambda value: value.to_bytes(SHARE_BYTES, "little"))


def each(nodes, make):
    return nodes.flatmap(lambda found: st.tuples(*(make(node) for node in found)))


def advertisements(sender=NODE):
    return st.builds(Advertisement, DIGEST, sender, DIGEST, DIGEST, BYTES)


BOXES = each(NODES, lambda node: st.builds(Box, st.just(node), BYTES))
SHARES = st.tuples(NODES, st.lists(SHARE, min_size=8, max_size=8)).map(
    lambda drawn: tuple(Share(node, data) for node, data in zip(*drawn, strict=False))
)
MESSAGES = st.one_of(
    advertisements(),
    st.builds(Roster, DIGEST, each(NODES, lambda node: advertisements(st.just(node)))),
    st.builds(SealedShares, DIGEST, NODE, DIGEST, BOXES),
    st.builds(Inbox, DIGEST, BOXES),
    st.builds(MaskedInput, DIGEST, NODE, BYTES),
    st.builds(Survivors, DIGEST, NODES.map(tuple)),
    st.builds(Consent, DIGEST, NODE, BYTES),
    st.builds(Consents, DIGEST, each(NODES, lambda node: st.builds(Consent, DIGEST, st.just(node), BYTES))),
    st.builds(Unmasking, DIGEST, NODE, SHARES, st.just(())),
    st.builds(Unmasking, DIGEST, NODE, st.just(()), SHARES),
)
SURVIVORS = Survivors(b"s" * 32, (1, 2))


@settings(deadline=None, max_examples=200)
@given(MESSAGES)
def test_messages_survive_the_way(message):
    data = encode(message)
    assert decode(data) == message
    assert encode(decode(data)) == data


@settings(deadline=None, max_examples=200)
@given(MESSAGES, st.data())
def test_what_is_cut_or_longer_is_refused(message, data):
    encoded = encode(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(Refused, match="too soon"):
        decode(encoded[:cut])
    with pytest.raises(Refused, match="after the end"):
        decode(encoded + data.draw(st.binary(min_size=1, max_size=5)))


@settings(deadline=None, max_examples=300)
@given(MESSAGES, st.data())
def test_other_bytes_are_another_message_or_none(message, data):
    encoded = bytearray(encode(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(bytes(encoded))
    except Refused:
        return
    assert found != message
    assert encode(found) == bytes(encoded)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_junk_is_refused(junk):
    with pytest.raises(Refused):
        decode(junk)


def test_another_kind_than_is_due_is_refused():
    assert decode_as(Survivors, encode(SURVIVORS)) == SURVIVORS
    with pytest.raises(Refused, match="kind Survivors, where Roster is due"):
        decode_as(Roster, encode(SURVIVORS))


def test_every_kind_has_its_number():
    assert len(set(KINDS.values())) == len(KINDS) == 9


def test_a_message_is_as_documented():
    # A fixed form: nodes of other versions of this program must read it, or see that they cannot.
    assert encode(SURVIVORS) == b"HFSS\x01\x06" + struct.pack("<I", 32) + b"s" * 32 + struct.pack("<IQQ", 2, 1, 2)


def test_signed_texts_differ_where_anything_does():
    first = Advertisement(b"s" * 32, 1, b"k" * 32, b"m" * 32, b"")
    changes = {"session": b"t" * 32, "sender": 2, "sealing_key": b"l" * 32, "masking_key": b"n" * 32}
    advertised = [first, *(replace(first, **{name: value}) for name, value in changes.items())]
    texts = {each.signed_text() for each in advertised}
    views = [(b"s" * 32, b"r" * 32, (1, 2), (2,)), (b"t" * 32, b"r" * 32, (1, 2), (2,))]
    views += [
        (b"s" * 32, b"q" * 32, (1, 2), (2,)),
        (b"s" * 32, b"r" * 32, (1,), (2, 2)),
        (b"s" * 32, b"r" * 32, (1, 2), (1,)),
    ]
    texts |= {consent_text(*view) for view in views}
    assert len(texts) == 10


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [(0, 0, "no message"), (4, 2, "version 2"), (5, 0, "kind 0"), (5, 77, "kind 77")],
)
def test_other_heads_are_refused(place, value, reason):
    data = bytearray(encode(SURVIVORS))
    data[place] = value
    with pytest.raises(Refused, match=reason):
        decode(bytes(data))


def test_a_count_beyond_the_message_is_refused_at_once():
    data = bytearray(encode(SURVIVORS))
    data[42:46] = b"\xff" * 4
    with pytest.raises(Refused, match="too soon"):
        decode(bytes(data))


def test_fields_that_cannot_be_are_refused():
    share = Share(1, bytes(SHARE_BYTES))
    made = {
        "session": lambda: Survivors(b"s", ()),
        "sealing key": lambda: Advertisement(b"s" * 32, 1, b"k", b"k" * 32, b""),
        "masking key": lambda: Advertisement(b"s" * 32, 1, b"k" * 32, b"k", b""),
        "commitment": lambda: SealedShares(b"s" * 32, 1, b"c", ()),
        "ascending": lambda: Survivors(b"s" * 32, (2, 1)),
        "twice": lambda: Survivors(b"s" * 32, (2, 2)),
        "share of": lambda: Share(1, b""),
        "no element": lambda: Share(1, PRIME.to_bytes(SHARE_BYTES, "little")),
        "both secrets": lambda: Unmasking(b"s" * 32, 1, (share,), (share,)),
    }
    for reason, make in made.items():
        with pytest.raises(Refused, match=reason):
            make()
    assert share.value == 0
    assert Share(1, (PRIME - 1).to_bytes(SHARE_BYTES, "little")).value == PRIME - 1
