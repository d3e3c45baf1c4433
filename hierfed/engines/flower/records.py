"""Requests and replies as Flower's records, and back: arrays travel bit for bit, and nothing is pickled."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import cast

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from safetensors.torch import load, save
from torch import Tensor

from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.federated.contract import Contribution
from hierfed.plain_text import printable

FACTS, ARRAYS = "facts", "arrays"
# A fact that makes a message's records unlike any other's.
UNLIKE = "unlike"
# Most facts of a message; most characters of their names, and of a text from a node and from the server, whose settings
# and list of keys are long.
MOST_FACTS, MOST_NAME, MOST_OF_NODE, MOST_OF_SERVER = 40, 100, 4096, 1 << 20
# Bytes of arrays that travel as a fact; Flower cuts up larger ones only as an array of its own.
MOST_BESIDE_FACTS = 4 << 20
FORM, ORDER = "safetensors", "order"
KINDS = {
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
}  # fmt: skip
# Flower knows three kinds of messages; ours are names under one of them.
TYPE = "query"


def message_type(kind: str) -> str:
    """Flower's name of a request's kind."""
    return f"{TYPE}.{kind}"


def request_message(request: Request, node_id: int, group: str | None = None) -> Message:
    """The message of a request to the node with this id of Flower's; group: see Flower's group_id."""
    return Message(request_records(request), node_id, message_type(request.kind), group_id=group)


def request_records(request: Request) -> RecordDict:
    """A request's content."""
    return _records(request.facts, request.arrays)


def reply_records(reply: Reply) -> RecordDict:
    """A reply's content."""
    return _records(reply.facts, reply.contribution.arrays)


def read_request(message: Message) -> Request:
    """The request that a message carries; raises ValueError where it carries none."""
    facts, arrays = _read(message.content, MOST_OF_SERVER)
    return Request(message.metadata.message_type.removeprefix(f"{TYPE}."), facts, arrays)


def read_reply(message: Message) -> Reply:
    """The reply that a message carries; raises ValueError or TypeError where it carries none."""
    facts, arrays = _read(message.content, MOST_OF_NODE)
    return Reply(facts, Contribution(arrays))


def _records(facts: Mapping[str, Fact], arrays: Mapping[str, Tensor]) -> RecordDict:
    # Flower stores records of equal content once, and deletes them when one of their messages has arrived. Others that
    # are on their way then never arrive. So no two messages may have a record in common.
    record = ConfigRecord({**facts, UNLIKE: secrets.token_bytes(8)})
    if not arrays:
        return RecordDict({FACTS: record})
    # Flower carries each array by itself, in two calls or more. One block of bytes saves most of them.
    block = save({name: tensor.contiguous() for name, tensor in arrays.items()}, {ORDER: json.dumps(list(arrays))})
    if len(block) <= MOST_BESIDE_FACTS:
        record[ARRAYS] = block
        return RecordDict({FACTS: record})
    return RecordDict({FACTS: record, ARRAYS: ArrayRecord({ARRAYS: Array("", (len(block),), FORM, block)})})


def _read(content: RecordDict, most: int) -> tuple[dict[str, Fact], dict[str, Tensor]]:
    facts, arrays = content.get(FACTS), content.get(ARRAYS, ArrayRecord())
    if content.keys() - {FACTS, ARRAYS} or not isinstance(facts, ConfigRecord) or not isinstance(arrays, ArrayRecord):
        raise ValueError(f"a message holds {sorted(content)}, expected facts and arrays")
    _check_facts(facts, most)
    block = facts.get(ARRAYS, b"")
    if arrays:
        if arrays.keys() != {ARRAYS} or arrays[ARRAYS].stype != FORM or block:
            raise ValueError("its arrays cannot be read: they are not one block")
        block = arrays[ARRAYS].data
    record = {name: cast(Fact, value) for name, value in facts.items() if name not in (UNLIKE, ARRAYS)}
    return record, _tensors(block) if block else {}


def _tensors(block: object) -> dict[str, Tensor]:
    """Copies of a block's arrays, in their sender's order.

    A received array is not aligned like torch's own memory, which may change last digits.
    """
    try:
        if not isinstance(block, bytes):
            raise ValueError("they are no bytes")
        found = load(block)
        order = json.loads(json.loads(block[8 : 8 + int.from_bytes(block[:8], "little")])["__metadata__"][ORDER])
        if sorted(order) != sorted(found) or not {tensor.dtype for tensor in found.values()} <= KINDS:
            raise ValueError("they are not those of their header")
        return {name: found[name].clone() for name in order}
    except Exception as error:
        # Bytes that are no arrays fail in many ways.
        raise ValueError(f"its arrays cannot be read: {printable(error, 80)}") from error


def _check_facts(facts: Mapping[str, object], most: int) -> None:
    """Raise ValueError for facts that are too many or too long.

    most: characters of a text.
    """
    if len(facts) > MOST_FACTS:
        raise ValueError(f"it holds {len(facts)} facts")
    for name, fact in facts.items():
        if isinstance(fact, list) or len(name) > MOST_NAME or (isinstance(fact, str) and len(fact) > most):
            raise ValueError(f"its fact {printable(repr(name), 40)} is too long")
