"""Requests and replies as Flower's records, and back: arrays travel bit for bit, and nothing is pickled."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from torch import Tensor

from hierfed.engines.exchange import Fact, Reply, Request
from hierfed.federated.contract import Contribution

FACTS, ARRAYS = "facts", "arrays"
# A fact that makes a message's records unlike any other's.
UNLIKE = "unlike"
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
    facts, arrays = _read(message.content)
    return Request(message.metadata.message_type.removeprefix(f"{TYPE}."), facts, arrays)


def read_reply(message: Message) -> Reply:
    """The reply that a message carries; raises ValueError or TypeError where it carries none."""
    facts, arrays = _read(message.content)
    return Reply(facts, Contribution(arrays))


def _records(facts: Mapping[str, Fact], arrays: Mapping[str, Tensor]) -> RecordDict:
    # Flower stores records of equal content once, and deletes them when one of their messages has arrived. Others that
    # are on their way then never arrive. So no two messages may have a record in common.
    record = ConfigRecord({**facts, UNLIKE: secrets.token_bytes(8)})
    if not arrays:
        return RecordDict({FACTS: record})
    sent = {name: Array(np.require(tensor.numpy(), requirements="C")) for name, tensor in arrays.items()}
    return RecordDict({FACTS: record, ARRAYS: ArrayRecord(sent)})


def _read(content: RecordDict) -> tuple[dict[str, Fact], dict[str, Tensor]]:
    facts, arrays = content.get(FACTS), content.get(ARRAYS, ArrayRecord())
    if content.keys() - {FACTS, ARRAYS} or not isinstance(facts, ConfigRecord) or not isinstance(arrays, ArrayRecord):
        raise ValueError(f"a message holds {sorted(content)}, expected facts and arrays")
    record = {name: cast(Fact, value) for name, value in facts.items() if name != UNLIKE}
    return record, {name: _tensor(name, array) for name, array in arrays.items()}


def _tensor(name: str, array: Array) -> Tensor:
    """A copy of an array: a received one is not aligned like torch's own memory, which may change last digits."""
    try:
        return torch.from_numpy(array.numpy()).clone(memory_format=torch.contiguous_format)
    except Exception as error:
        # Bytes that are no array fail in many ways: as an archive, as a header, as a shape beyond all memory.
        raise ValueError(f"array '{name}' cannot be read: {error}") from error
