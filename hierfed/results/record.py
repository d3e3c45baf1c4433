"""What all parts of a result are made of, and how one is written."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hierfed.atomic import write_atomically
from hierfed.sealed import SEAL, json_digest

Kept = TypeVar("Kept", bound="Record")
UNDEFINED = float("nan")
"""The one NaN of results: as one object it equals itself inside records, so that equal results are equal."""
Number = Annotated[
    float,
    BeforeValidator(lambda value: UNDEFINED if value is None else value),
    AfterValidator(lambda value: UNDEFINED if isnan(value) else value),
]
"""A figure that may be undefined (no rows): NaN here, null in JSON."""


class Record(BaseModel):
    """An immutable part of a result; unknown fields are errors, so that a misspelt one cannot hide."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def write_record(record: Kept, path: Path) -> Kept:
    """Write a record as indented JSON with its checksum, and give it with that; a reader never sees half of it."""
    found = json.loads(record.model_dump_json())
    record = record.model_copy(update={SEAL: json_digest(found)})
    write_atomically(path, f"{record.model_dump_json(indent=1)}\n".encode())
    return record
