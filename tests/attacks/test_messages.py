"""Damaged messages: a node refuses them in one line, and the server goes on; `fuzz.py --messages` makes more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from fuzzing.letters import KINDS, over_letters
from fuzzing.messages import federation
from fuzzing.trial import BAD

from hierfed.deployment.plan import Plan
from hierfed.deployment.protocol import VERSION, hello
from hierfed.engines.exchange import REFUSAL, Request
from hierfed.engines.flower.fleet import client_app
from hierfed.engines.flower.records import read_reply
from hierfed.errors import HierfedError
from hierfed.ledger.keys import public_text

Change = Callable[[dict[str, Any]], RecordDict]


def with_facts(**changes: Any) -> Change:
    return lambda facts: RecordDict({"facts": ConfigRecord({**facts, **changes})})


def without(name: str) -> Change:
    return lambda facts: RecordDict({"facts": ConfigRecord({key: facts[key] for key in facts if key != name})})


def beside(record: ConfigRecord | ArrayRecord, name: str) -> Change:
    return lambda facts: RecordDict({"facts": ConfigRecord(facts), name: record})


FOUND = {
    "no records": lambda facts: RecordDict({}),
    "another record": beside(ConfigRecord({}), "more"),
    "arrays of another form": beside(ArrayRecord({"arrays": Array("", (3,), "npy", b"abc")}), "arrays"),
    "a fact with a long name": with_facts(**{"x" * 200: 1}),
    "arrays that are a text": with_facts(arrays="x"),
    "no round": without("round"),
    "a round that is a text": with_facts(round=""),
    "a round that is no whole number": with_facts(round=1.5),
    "a stage that is a number": with_facts(stage=3),
    "entries that are a text": with_facts(entries="x"),
}


@pytest.mark.parametrize("change", FOUND.values(), ids=FOUND.keys())
def test_a_request_that_is_none_is_refused_in_one_line_and_the_node_goes_on(change, village, make_settings):
    """Each was a traceback that ended the node."""
    made, told = village(make_settings("item_biases", scale=[0.5, 5.0])), []

    class Hurting(type(made).make_grid):
        def on_request(self, side, message: Message) -> None:
            if side.name != "node 10" or not message.metadata.message_type.endswith("round") or told:
                return
            right = message.content
            message.content = change(dict(right["facts"]))
            try:
                told.append(
                    read_reply(client_app(side.answer)(message, Context(1, 1, {}, RecordDict(), {}))).facts[REFUSAL]
                )
            except HierfedError as error:
                told.append(str(error))
            message.content = right

    made.make_grid = Hurting
    result = made.serve(quorum=2, nodes=3)
    (line,) = told
    assert line.isprintable()
    assert "cannot be read" in line or "that can be read" in line or "holds what no message" in line
    assert all(len(each.contributors) == 3 for each in result.federation.rounds)


@pytest.mark.parametrize(("kind", "secure"), [("round", False), ("mask", True), ("judge", False)])
@pytest.mark.parametrize("requests", [True, False])
def test_damaged_messages_are_no_tracebacks(kind, secure, requests, data, village):
    found = federation(data, kind, secure, requests, 1)
    assert found
    assert not [each for each in found if each.outcome in BAD]


@pytest.mark.parametrize("name", ["finished", "limits", "keys", "update"])
@pytest.mark.parametrize("text", ["{}x", "", "[1]", "[" * 100_000, '{"rating": "two"}', '{"rating": 1e999}'])
def test_a_setup_that_cannot_be_read_is_refused_in_one_line(name, text, data, village, make_settings):
    made = village(make_settings("item_biases", scale=[0.5, 5.0]))
    side = made.sides["node 10"]
    server = public_text(Ed25519PrivateKey.generate())
    side.answer(hello(data.catalogue, bytes(32), server, scale=(0.5, 5.0)))
    right = Plan("f00d", made.settings, data.catalogue, (0.5, 5.0), nodes=3).request(2, {})
    with pytest.raises(HierfedError) as error:
        side.answer(replace(right, facts={**right.facts, name: text}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    side.answer(right)


def test_a_hello_without_its_facts_is_refused(village, make_settings):
    made = village(make_settings("item_biases"))
    reply = made.sides["node 1"].answer(Request("hello", {"version": VERSION}))
    assert reply.facts == {"refusal": "the server's greeting cannot be read"}


def test_damaged_letters_between_peers_are_no_tracebacks():
    """`fuzz.py --letters` makes more."""
    counts = over_letters(0, 8)
    assert len(counts) == len(KINDS)
    assert all(found.total() > 0 for found in counts.values())
    assert not [name for name, found in counts.items() if any(found[bad] for bad in BAD)]
