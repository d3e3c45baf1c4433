"""The entries of a ledger, and the one way to write each as bytes: any other bytes are no entry."""

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
    """The first entry: which training, under which settings and catalogue (sha256), and everyone's public key.

    nodes: keys by name. simulated: whether all keys were made by one process, so that no signature is independent.
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
    """What every later entry holds. position: how many entries are before it. previous: sha256 of the line before.

    countersignatures: of that line, by node, as far as they had come when this entry was made.
    """

    training: Training
    position: Position
    previous: Digest
    settings: Digest
    countersignatures: dict[str, Signature]


class RefusedContribution(Record):
    """Whose contribution did not enter the sum, and why."""

    node: str
    reason: str


class RoundEntry(Following):
    """A round. sum: sha256 of the contributions' sum, None where it was abandoned; model: of the shared model then.

    joined: keys of nodes that had none in the ledger before. epsilon: what differential privacy has spent so far, None
    without it.
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
    """The end of the training. models: sha256 of each stage's final one. files: of what lies beside the ledger."""

    kind: Literal["seal"] = "seal"
    models: dict[str, Digest]
    files: dict[str, Digest]


class End(Following):
    """The countersignatures of the seal; nothing follows."""

    kind: Literal["end"] = "end"


Entry = Opening | RoundEntry | Seal | End


class Line(Record):
    """An entry with the server's signature."""

    entry: Annotated[Entry, Field(discriminator="kind")]
    signature: Signature


def canonical(record: Record) -> bytes:
    """The one way to write it: JSON in ASCII with sorted keys and no spaces."""
    content = record.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_line(written: bytes) -> Line:
    """The line that was written as these bytes, without their line feed; raises ValueError for any other."""
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
    """What stands for a line in the next one."""
    return hashlib.sha256(written).hexdigest()


def server_text(entry: Entry) -> bytes:
    """What the server signs."""
    return b"hierfed ledger entry\n" + canonical(entry)


def node_text(previous: str) -> bytes:
    """What nodes sign; previous: the line's hash."""
    return b"hierfed ledger countersignature\n" + previous.encode("ascii")
