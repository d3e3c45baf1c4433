"""The entries of a ledger, and their canonical bytes: any other bytes are no entry."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hierfed.results import Record

FILE = "ledger.jsonl"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Training = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Position = Annotated[int, Field(ge=0, strict=True)]


class Opening(Record):
    """The first entry: the training, its settings and catalogue (sha256), and all public keys.

    nodes: keys by name.
    simulated: True if one process made all keys, so that no signature is independent.
    """

    kind: Literal["opening"] = "opening"
    format: Literal["hierfed ledger 1"] = "hierfed ledger 1"
    training: Training
    position: Literal[0] = 0
    settings: Digest
    catalogue: Digest
    simulated: bool
    server: str
    nodes: dict[str, str]


class Following(Record):
    """The fields of every later entry.

    position: the number of entries before it.
    previous: sha256 of the line before.
    countersignatures: of that line, by node, as far as they had come when this entry was made.
    """

    training: Training
    position: Position
    previous: Digest
    settings: Digest
    countersignatures: dict[str, Signature]


class Continued(Following):
    """The training goes on from a finished model. model: its sha256. forgotten: how many users left before."""

    kind: Literal["continued"] = "continued"
    model: Digest
    forgotten: Annotated[int, Field(ge=0, strict=True)]


class RefusedContribution(Record):
    """A node whose contribution is not in the sum, and the reason."""

    node: str
    reason: str


class RoundEntry(Following):
    """A round.

    joined: keys of nodes that had none in the ledger before.
    sum: sha256 of the contributions' sum; None for an abandoned round.
    model: sha256 of the shared model after the round.
    epsilon: the cost in differential privacy so far; None without it.
    """

    kind: Literal["round"] = "round"
    stage: str
    round: Annotated[int, Field(strict=True)]
    contributors: list[str]
    refused: list[RefusedContribution]
    joined: dict[str, str]
    sum: Digest | None
    model: Digest
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class Seal(Following):
    """The end of the training. models: sha256 of each stage's final model. files: sha256 of files beside the ledger."""

    kind: Literal["seal"] = "seal"
    models: dict[str, Digest]
    files: dict[str, Digest]


class End(Following):
    """The countersignatures of the seal, and the last entry."""

    kind: Literal["end"] = "end"


Entry = Opening | Continued | RoundEntry | Seal | End


class Line(Record):
    """An entry with the server's signature."""

    entry: Annotated[Entry, Field(discriminator="kind")]
    signature: Signature


def canonical(record: Record) -> bytes:
    """The canonical bytes of a record: JSON in ASCII with sorted keys and no spaces."""
    content = record.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_line(written: bytes) -> Line:
    """The line in these bytes, without their line feed; raises ValueError for bytes that are not canonical."""
    try:
        line = Line.model_validate_json(written)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = " ".join([*(f"{part}:" for part in first["loc"]), *first["msg"].split()])
        raise ValueError(f"is no entry of a ledger: {reason}") from error
    if canonical(line) != written:
        raise ValueError("is not written as entries are: bytes were added, left out or exchanged")
    return line


def line_hash(written: bytes) -> str:
    """The sha256 of a line, which the next line holds."""
    return hashlib.sha256(written).hexdigest()


def server_text(entry: Entry) -> bytes:
    """The text that the server signs."""
    return b"hierfed ledger entry\n" + canonical(entry)


def node_text(previous: str) -> bytes:
    """The text that nodes sign. previous: the line's hash."""
    return b"hierfed ledger countersignature\n" + previous.encode("ascii")
