"""Requests and replies through Flower's messages: every bit arrives, and nothing else gets in."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower.records import (
    MOST_BESIDE_FACTS,
    message_type,
    read_reply,
    read_request,
    reply_records,
    request_records,
)
from hierfed.federated.contract import Contribution

Carry = Callable[[Message], Message]
RNG = np.random.default_rng(8)


def of_bits(*bits: int) -> Tensor:
    """Float64 numbers of exactly these bits."""
    return torch.from_numpy(np.array(bits, np.uint64).view(np.float64))


FLOAT64 = {
    "numbers": torch.from_numpy(RNG.normal(size=(3, 4, 2))),
    "many": torch.from_numpy(RNG.normal(size=70_001)),
    "empty": torch.zeros(0, dtype=torch.float64),
    "no rows": torch.zeros(0, 3, dtype=torch.float64),
    "no dimensions": torch.tensor(0.1, dtype=torch.float64),
    "turned": torch.from_numpy(RNG.normal(size=(5, 3))).T,
    "every other": torch.from_numpy(RNG.normal(size=(6, 6)))[::2, 1::3],
    "expanded": torch.tensor([0.1], dtype=torch.float64).expand(3, 2),
    "signs and limits": torch.tensor(
        [0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324, 1.7976931348623157e308]
    ).double(),
    "not numbers": of_bits(0x7FF8DEADBEEF0001, 0xFFF8000000000000, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF),
}
OTHERS = {
    "float32": torch.from_numpy(RNG.normal(size=(2, 5)).astype(np.float32)),
    "float32 not numbers": torch.from_numpy(np.array([0x7FC0BEEF, 0xFFA00001, 0x80000000], np.uint32).view(np.float32)),
    "int64": torch.tensor([[2**63 - 1, -(2**63)], [0, -1]]),
    "int32": torch.tensor([2**31 - 1, -(2**31)], dtype=torch.int32),
}
FACTS = {
    "text": "Ünï\n\0code",
    "no text": "",
    "bytes": bytes(range(256)),
    "no bytes": b"",
    "int": -(2**62) - 1,
    "zero": 0,
    "float": 0.1 + 0.2,
    "least": 5e-324,
    "infinite": -math.inf,
    "": "a fact without a name",
}


@pytest.fixture(params=["as it is", "as objects", "as one protobuf"])
def carry(request: pytest.FixtureRequest, wire: Carry) -> Carry:
    """The ways that a message may take."""

    def protobuf(message: Message) -> Message:
        return message_from_proto(ProtoMessage.FromString(message_to_proto(message).SerializeToString()))

    ways: dict[str, Carry] = {"as it is": lambda message: message, "as objects": wire, "as one protobuf": protobuf}
    return ways[request.param]


def asking(request: Request) -> Message:
    return Message(request_records(request), 7, message_type(request.kind))


def answering(content: RecordDict) -> Message:
    return Message(content, reply_to=asking(Request("round")))


def bits(array: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return array.dtype, tuple(array.shape), array.numpy().tobytes()


@pytest.mark.parametrize("name", [*FLOAT64, *OTHERS])
def test_a_requests_arrays_arrive_bit_for_bit(name, carry):
    array = {**FLOAT64, **OTHERS}[name]
    found = read_request(carry(asking(Request("round", {}, {"other": torch.ones(2), name: array})))).arrays
    assert set(found) == {"other", name}
    assert bits(found[name]) == bits(array)
    assert bits(found["other"]) == bits(torch.ones(2))


@pytest.mark.parametrize("name", FLOAT64)
def test_a_replys_arrays_arrive_bit_for_bit(name, carry):
    sent = Contribution({name: FLOAT64[name], "other": torch.ones(2).double()})
    found = read_reply(carry(answering(reply_records(Reply({}, sent))))).contribution.arrays
    assert set(found) == {"other", name}
    assert bits(found[name]) == bits(FLOAT64[name])
    assert bits(found["other"]) == bits(torch.ones(2).double())


def test_names_keep_their_order(carry):
    arrays = {name: torch.full((1,), float(place)) for place, name in enumerate(["b", "a", "ü", ""])}
    found = read_request(carry(asking(Request("round", {}, arrays)))).arrays
    assert list(found) == list(arrays)


def test_facts_arrive_with_their_types(carry):
    asked = read_request(carry(asking(Request("hello", FACTS)))).facts
    answered = read_reply(carry(answering(reply_records(Reply(FACTS))))).facts
    for found in (asked, answered):
        assert found == FACTS
        assert {name: type(fact) for name, fact in found.items()} == {name: type(fact) for name, fact in FACTS.items()}


def test_kinds_arrive_and_an_empty_message_is_one(carry):
    for kind in ("hello", "round", "query"):
        assert read_request(carry(asking(Request(kind)))) == Request(kind, {}, {})
    assert read_reply(carry(answering(reply_records(Reply())))) == Reply({}, Contribution({}))


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5), st.text() | st.binary() | st.integers(-(2**63), 2**63 - 1) | st.floats(), max_size=4
    ),
    st.lists(st.integers(0, 2**64 - 1), max_size=5),
)
def test_whatever_is_sent_arrives(wire, facts, numbers):
    array = of_bits(*numbers)
    found = read_reply(wire(answering(reply_records(Reply(facts, Contribution({"sum": array}))))))
    assert {name: repr(fact) for name, fact in found.facts.items()} == {
        name: repr(fact) for name, fact in facts.items()
    }
    assert bits(found.contribution.arrays["sum"]) == bits(array)


def test_what_arrives_lies_in_torchs_own_memory(carry):
    arrays = {str(size): torch.from_numpy(RNG.normal(size=(size, 3))) for size in range(1, 40)}
    arrays["turned"] = FLOAT64["turned"]
    found = read_request(carry(asking(Request("round", {}, arrays)))).arrays
    assert all(array.is_contiguous() for array in found.values())
    # By chance numpy's memory is so aligned too, but not 40 times.
    assert {array.data_ptr() % 64 for array in found.values()} == {0}


def test_a_large_block_travels_as_an_array_which_flower_cuts_up(wire):
    array = torch.from_numpy(RNG.normal(size=MOST_BESIDE_FACTS // 8 + 1))
    content = request_records(Request("round", {"round": 1}, {"sum": array, "more": torch.ones(1)}))
    assert isinstance(content["arrays"], ArrayRecord)
    found = read_request(wire(Message(content, 7, message_type("round"))))
    assert found.facts == {"round": 1}
    assert bits(found.arrays["sum"]) == bits(array)


def test_a_message_is_few_objects_whatever_its_arrays(wire):
    """Flower asks for each object by itself, in a call that takes longer than a small round."""
    arrays = {str(number): torch.ones(number) for number in range(9)}
    assert len(list(get_all_nested_objects(asking(Request("round", {"round": 1}, arrays))))) <= 3


def test_what_arrives_is_the_readers_own(carry):
    original = torch.zeros(3).double()
    message = carry(asking(Request("round", {}, {"sum": original})))
    first, second = read_request(message).arrays["sum"], read_request(message).arrays["sum"]
    first += 1
    assert (first.tolist(), second.tolist(), original.tolist()) == ([1, 1, 1], [0, 0, 0], [0, 0, 0])


ARRAYS, SETTINGS = ArrayRecord({"sum": Array(np.ones(2))}), ConfigRecord({"round": 1})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"arrays": ARRAYS}),
        RecordDict({"facts": SETTINGS, "arrays": ARRAYS, "more": MetricRecord({"loss": 1.0})}),
        RecordDict({"facts": SETTINGS, "parameters": ARRAYS}),
        RecordDict({"facts": SETTINGS, "arrays": SETTINGS}),
        RecordDict({"facts": ARRAYS, "arrays": ARRAYS}),
        RecordDict({"facts": MetricRecord({"round": 1}), "arrays": ARRAYS}),
    ],
    ids=["empty", "arrays", "more", "other names", "facts twice", "arrays twice", "metrics"],
)
def test_foreign_content_is_a_value_error(content, carry):
    with pytest.raises(ValueError, match="expected facts and arrays"):
        read_reply(carry(answering(content)))
    with pytest.raises(ValueError, match="expected facts and arrays"):
        read_request(carry(Message(content, 7, message_type("round"))))


@pytest.mark.parametrize(
    "make", [lambda: reply_records(Reply({"message": b"x"})), lambda: request_records(Request("share"))]
)
def test_no_two_messages_without_arrays_have_an_object_in_common(make):
    """Flower deletes the objects of a message that has arrived, and those of others on their way with them."""
    first, second = (set(get_all_nested_objects(Message(make(), 7, message_type("round")))) for _ in range(2))
    assert first
    assert not first & second


def test_an_error_is_no_reply():
    with pytest.raises(ValueError, match="content"):
        read_reply(Message(Error(1, "no"), reply_to=asking(Request("round"))))


def test_a_reply_of_another_type_than_float64_is_a_type_error(carry):
    content = request_records(Request("", {}, {"sum": torch.ones(2)}))
    with pytest.raises(TypeError, match="only float64"):
        read_reply(carry(answering(content)))


class Bomb:
    """Says when it has been unpickled."""

    gone_off = False

    def __reduce__(self):
        return Bomb.explode, ()

    @staticmethod
    def explode() -> None:
        Bomb.gone_off = True


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def block(header: str, data: bytes = b"") -> bytes:
    """A block of arrays with this header."""
    return len(header).to_bytes(8, "little") + header.encode() + data


def array(**changes: object) -> str:
    """The header of one array of two numbers, with changes."""
    one = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]} | changes
    return json.dumps({"__metadata__": {"order": '["sum"]'}, "sum": one})


GOOD = block(array(), np.ones(2).tobytes())
DAMAGED = {
    "text": b"not an array",
    "half a header": GOOD[:20],
    "half the numbers": GOOD[:-9],
    "more numbers": GOOD + b"12345678",
    "no dictionary": block("[]"),
    "no order": block(json.dumps({"sum": {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}})),
    "an array more than its order": GOOD.replace(b'[\\"sum\\"]', b"[       ]"),
    "another order": GOOD.replace(b'sum\\"', b'mus\\"'),
    "beyond all memory": block(array(shape=[10_000_000_000_000], data_offsets=[0, 80_000_000_000_000])),
    "of another size": block(array(shape=[3]), np.ones(2).tobytes()),
    "negative": block(array(shape=[-1])),
    "truth values": block(array(dtype="BOOL", shape=[16]), bytes(16)),
    "NumPy's format": saved(np.ones(2)),
    "pickle": saved(np.array([Bomb()], dtype=object)).partition(b"\n")[2],
}


def with_block(data: bytes, beside_facts: bool) -> RecordDict:
    """A message's content with this block, in one of the two places."""
    if beside_facts:
        return RecordDict({"facts": ConfigRecord({"arrays": data})})
    found = Array("", (len(data),), "safetensors", data)
    return RecordDict({"facts": ConfigRecord(), "arrays": ArrayRecord({"arrays": found})})


@pytest.mark.parametrize("beside_facts", [True, False])
@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_bytes_that_are_no_arrays_are_a_value_error(data, beside_facts, wire):
    assert read_reply(answering(with_block(GOOD, beside_facts))).contribution.arrays["sum"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="its arrays cannot be read"):
        read_reply(wire(answering(with_block(data, beside_facts))))


def test_nothing_is_unpickled(monkeypatch):
    monkeypatch.setattr(Bomb, "gone_off", False)
    pickle.loads(DAMAGED["pickle"])  # noqa: S301 - to see that it would go off
    assert Bomb.gone_off
    monkeypatch.setattr(Bomb, "gone_off", False)
    with pytest.raises(ValueError, match="cannot be read"):
        read_request(Message(with_block(DAMAGED["pickle"], False), 7, "query"))
    assert not Bomb.gone_off


def test_arrays_of_another_form_are_refused():
    found = Array(np.ones(1))
    for record in ({"sum": found}, {"arrays": found}):
        with pytest.raises(ValueError, match="they are not one block"):
            read_reply(answering(RecordDict({"facts": ConfigRecord(), "arrays": ArrayRecord(record)})))
    both = RecordDict({**with_block(GOOD, False), **with_block(GOOD, True)})
    with pytest.raises(ValueError, match="they are not one block"):
        read_reply(answering(both))
    with pytest.raises(ValueError, match="they are no bytes"):
        read_reply(answering(RecordDict({"facts": ConfigRecord({"arrays": 3})})))
