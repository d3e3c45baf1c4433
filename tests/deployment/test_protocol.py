"""The first words: who may join is who signs, and whatever else is said is refused, not believed."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hierfed import __version__
from hierfed.data.catalogue import Catalogue
from hierfed.data.reading.catalogue_file import catalogue_of_bytes
from hierfed.deployment.protocol import (
    VERSION,
    Introduction,
    hello,
    introduce,
    limits_in,
    new_nonce,
    other_version,
    read_introduction,
)
from hierfed.deployment.signing import public_text
from hierfed.engines.exchange import Reply, Request
from hierfed.federated.contract import Contribution
from hierfed.ledger import keys as ledger_keys

KEY, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
ALLOWED = frozenset({public_text(KEY.public_key())})
BOTH = ALLOWED | {public_text(OTHER.public_key())}
NONCE = bytes(range(32))
LEDGER, SERVER = (ledger_keys.public_text(Ed25519PrivateKey.generate()) for _ in range(2))
NODE = Introduction(
    name="hospital north",
    identity="5ec2e7",
    tag="7a9",
    key=public_text(KEY.public_key()),
    ledger=LEDGER,
    limits=(0.5, 5.0),
)


def said(**changes) -> Reply:
    """A signed introduction, with other facts."""
    reply = introduce(NODE, NONCE, KEY)
    return Reply({**reply.facts, **changes}, reply.contribution)


def without(name: str) -> Reply:
    reply = said()
    return Reply({key: fact for key, fact in reply.facts.items() if key != name}, reply.contribution)


def refusal(reply: Reply, keys: frozenset[str] | None = ALLOWED, nonce: bytes = NONCE) -> str:
    found = read_introduction(reply, nonce, keys)
    assert isinstance(found, str), found
    assert found
    assert "\n" not in found
    return found


@pytest.mark.parametrize("keys", [ALLOWED, BOTH, None], ids=["its own", "one of two", "all"])
def test_what_was_said_is_what_is_understood(keys):
    found = read_introduction(said(), NONCE, keys)
    assert isinstance(found, Introduction)
    assert found == NODE


def test_where_limits_are_not_asked_for_nothing_is_said_of_the_ratings():
    quiet = replace(NODE, limits=None)
    reply = introduce(quiet, NONCE, KEY)
    assert reply.facts.keys() == {
        "version",
        "hierfed",
        "nonce",
        "name",
        "identity",
        "key",
        "ledger",
        "tag",
        "signature",
    }
    assert reply.contribution.arrays == {}
    assert read_introduction(reply, NONCE, ALLOWED) == quiet


def test_a_key_that_is_named_is_signed_with_even_where_all_may_join():
    named = replace(NODE, key=public_text(OTHER.public_key()))
    assert "does not sign with the key that it names" in refusal(introduce(named, NONCE, KEY), None)


def test_a_node_without_a_key_joins_where_none_is_asked_for_and_nowhere_else():
    reply = introduce(replace(NODE, key=""), NONCE, None)
    assert read_introduction(reply, NONCE, None).name == "hospital north"
    assert "'hospital north' has no key that was given with --allow-key" in refusal(reply)


@pytest.mark.parametrize(
    ("reply", "keys", "nonce"),
    [
        (introduce(NODE, NONCE, OTHER), ALLOWED, NONCE),
        (introduce(NODE, NONCE, KEY), frozenset(), NONCE),
        (introduce(NODE, new_nonce(), KEY), ALLOWED, NONCE),
        (introduce(NODE, NONCE, KEY), ALLOWED, new_nonce()),
        (introduce(NODE, NONCE, KEY), ALLOWED, NONCE[:-1]),
        (said(name="hospital south"), ALLOWED, NONCE),
        (said(name="hospital north "), ALLOWED, NONCE),
        (said(identity="0"), ALLOWED, NONCE),
        (said(signature=b""), ALLOWED, NONCE),
        (said(signature=bytes(96)), ALLOWED, NONCE),
        (said(signature="text"), ALLOWED, NONCE),
        (said(signature=[1, 2]), ALLOWED, NONCE),
        (said(signature=introduce(NODE, NONCE, OTHER).facts["signature"]), ALLOWED, NONCE),
        (said(key=public_text(OTHER.public_key())), BOTH, NONCE),
        (said(key=""), ALLOWED, NONCE),
        (said(key="", signature=b""), ALLOWED, NONCE),
        (said(key="junk"), ALLOWED, NONCE),
        (without("signature"), ALLOWED, NONCE),
    ],
    ids=lambda value: "",
)
def test_a_signature_counts_for_this_key_nonce_name_and_identity_alone(reply, keys, nonce):
    refusal(reply, keys, nonce)


def test_a_signature_with_any_byte_changed_is_none():
    signature = said().facts["signature"]
    for place in range(0, len(signature), 7):
        changed = bytearray(signature)
        changed[place] ^= 1
        refusal(said(signature=bytes(changed)))


def test_name_and_identity_cannot_be_cut_elsewhere():
    """The signature covers where one ends and the other begins."""
    long = introduce(replace(NODE, name="a\nb", identity="c"), NONCE, KEY)
    moved = Reply({**long.facts, "name": "a", "identity": "b\nc"}, long.contribution)
    refusal(moved)


@pytest.mark.parametrize("theirs", [VERSION + 1, VERSION - 1, 0, "1", b"1", None])
def test_another_version_is_refused_on_both_sides_with_both_versions(theirs):
    line = refusal(said(version=theirs) if theirs is not None else without("version"))
    assert f"{theirs!r}" in line
    assert str(VERSION) in line.replace(repr(theirs), "")
    facts = {} if theirs is None else {"version": theirs, "hierfed": "9.9"}
    line = other_version(Request("hello", facts))
    assert f"version {theirs!r}" in line
    assert f"version {VERSION}" in line
    assert repr(__version__) in line
    assert theirs is None or "9.9" in line
    assert "\n" not in line


def test_the_same_version_is_spoken(data):
    assert other_version(hello(data.catalogue, NONCE, SERVER, False)) == ""


@pytest.mark.parametrize("secure", [False, True])
def test_hello_tells_the_catalogue_the_nonce_and_how_sums_are_made(secure, data):
    request = hello(data.catalogue, NONCE, SERVER, secure)
    assert request.facts["sums"] == ("secure" if secure else "open")
    assert request.kind == "hello"
    assert request.facts["nonce"] == NONCE
    assert catalogue_of_bytes(request.facts["catalogue"]).digest() == data.catalogue.digest()
    assert request.arrays == {}


def test_nonces_are_long_and_new():
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert {len(nonce) for nonce in nonces} == {32}


def test_a_node_s_own_refusal_is_passed_on():
    assert refusal(Reply({"refusal": "the server has another catalogue"})) == "the server has another catalogue"


@pytest.mark.parametrize("keys", [ALLOWED, None])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply({"refusal": 3}),
        Reply({"refusal": ""}),
        Reply({"refusal": "two\nlines"}),
        Reply({"version": VERSION}),
        *(without(name) for name in ("name", "identity", "low", "high", "key", "version")),
        *(said(**{name: b"\xff\xfe"}) for name in ("name", "identity", "low", "high", "key")),
        *(said(**{name: [1, 2]}) for name in ("name", "identity", "low", "high", "key")),
        *(said(**{name: value}) for name in ("low", "high") for value in (math.nan, math.inf, -math.inf, "x", "nan")),
        said(low=5.0, high=0.5),
        said(name=""),
        said(name="two\nlines"),
        said(name="a/b"),
        said(identity=""),
        said(key="a key"),
        said(key="ssh-none AAAA"),
        Reply(said().facts, Contribution({"counts": torch.zeros(5, dtype=torch.float64)})),
        Reply(said().facts, Contribution({"": torch.zeros(0, dtype=torch.float64)})),
    ],
    ids=lambda value: "",
)
def test_junk_is_refused(reply, keys):
    refusal(reply, keys)


FACTS = st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.lists(st.integers(), max_size=2))
NAMES = st.sampled_from(["version", "name", "identity", "low", "high", "key", "signature", "refusal"])


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(NAMES, FACTS, min_size=1, max_size=4), keys=st.sampled_from([ALLOWED, None]))
def test_whatever_is_said_there_is_an_answer(changes, keys):
    found = read_introduction(said(**changes), NONCE, keys)
    if isinstance(found, str):
        assert "\n" not in found
    elif keys is not None:
        # Facts that the signature does not cover may differ, within what they can be.
        assert changes.keys() <= {"low", "high", "version"} or all(
            said().facts.get(name) == value for name, value in changes.items() if name in ("name", "identity", "key")
        )


def test_a_catalogue_of_other_columns_cannot_be_met():
    from hierfed.data.reading.catalogue_file import catalogue_bytes
    from hierfed.errors import DataError

    for content in (b"", b"junk", catalogue_bytes(Catalogue(pl.DataFrame({"movie": [1, 2]})))):
        with pytest.raises(DataError, match="the server's catalogue") as error:
            catalogue_of_bytes(content)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", [None, "", "5", "null", "[1]", "[1, 2, 3]", "[5, 1]", "[NaN, 5]", "[1, 1e999]", '["a", 1]', "[" * 100_000]
)
def test_a_peers_scale_that_is_none_is_told_as_none(text):
    assert limits_in(text) is None


def test_a_peers_scale_has_two_ends():
    assert limits_in("[0.5, 5]") == (0.5, 5.0)
    assert limits_in("[3, 3]") == (3.0, 3.0)
