"""Requests and replies as Flower's records, and back: arrays travel bit for bit, and nothing is pickled."""

from __future__ import annotations

import io
import math
import secrets
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import SType
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
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Flower knows three kinds of messages; ours are names under one of them.
TYPE = "query"


def message_type(kind: str) -> str:
    """Flower's name of a request's kind."""
    return f"{TYPE}.{kind}"


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
    sent = {name: Array(np.require(tensor.numpy(), requirements="C")) for name, tensor in arrays.items()}
    return RecordDict({FACTS: record, ARRAYS: ArrayRecord(sent)})


def _read(content: RecordDict, most: int) -> tuple[dict[str, Fact], dict[str, Tensor]]:
    facts, arrays = content.get(FACTS), content.get(ARRAYS, ArrayRecord())
    if content.keys() - {FACTS, ARRAYS} or not isinstance(facts, ConfigRecord) or not isinstance(arrays, ArrayRecord):
        raise ValueError(f"a message holds {sorted(content)}, expected facts and arrays")
    _check_facts(facts, most)
    record = {name: cast(Fact, value) for name, value in facts.items() if name != UNLIKE}
    return record, {name: _tensor(name, array) for name, array in arrays.items()}


def _tensor(name: str, array: Array) -> Tensor:
    """A copy of an array: a received one is not aligned like torch's own memory, which may change last digits.

    It has NumPy's format, and as many bytes as its header says. NumPy itself would unpack archives too, which grow.
    """
    try:
        if array.stype != SType.NUMPY:
            raise ValueError("its form is not NumPy's")
        data = array.data
        stream = io.BytesIO(data)
        shape, by_columns, kind = HEADERS[np.lib.format.read_magic(stream)](stream)
        begin = stream.tell()
        if kind.kind not in "fiu" or not kind.isnative or len(data) - begin != math.prod(shape) * kind.itemsize:
            raise ValueError("its bytes are not those of its header")
        values = np.frombuffer(data, kind, offset=begin).reshape(shape, order="F" if by_columns else "C")
        return torch.tensor(values).contiguous()
    except Exception as error:
        # Bytes that are no array fail in many ways: as a header, as a shape that they do not fill.
        raise ValueError(f"array {printable(repr(name), 80)} cannot be read: {printable(error, 80)}") from error


def _check_facts(facts: Mapping[str, object], most: int) -> None:
    """Raise ValueError for facts that are too many or too long.

    most: characters of a text.
    """
    if len(facts) > MOST_FACTS:
        raise ValueError(f"it holds {len(facts)} facts")
    for name, fact in facts.items():
        if isinstance(fact, list) or len(name) > MOST_NAME or (isinstance(fact, str) and len(fact) > most):
            raise ValueError(f"its fact {printable(repr(name), 40)} is too long")
