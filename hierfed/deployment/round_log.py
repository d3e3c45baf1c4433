"""The server's list of rounds, a line each with its checksum, from which the report is made."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from hierfed.errors import storing
from hierfed.results import DeployedRound
from hierfed.runs.folder import ROUNDS
from hierfed.sealed import MALFORMED, SEAL, check_json, damaged, json_digest

POSITION = "position"
ADVICE = "put the file back from a copy, or delete the line: the report then lacks its round"


def append_round(folder: Path, record: DeployedRound, position: int) -> None:
    """Write a line to the disk; position: from 1, its place among the rounds."""
    found = {POSITION: position, **json.loads(record.model_dump_json())}
    line = json.dumps({**found, SEAL: json_digest(found)})
    with storing(folder / ROUNDS), (folder / ROUNDS).open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


def read_rounds(folder: Path) -> list[DeployedRound]:
    """All rounds of a training, those of earlier servers too; empty before the first one ends.

    An incomplete last line, left by a crash, is cut off. Raises DamagedError for any other change.
    """
    path = folder / ROUNDS
    if not path.is_file():
        return []
    written = path.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        os.truncate(path, whole)
    found = []
    for number, line in enumerate(written[:whole].split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
            check_json(record, path)
            if record.get(POSITION, number) < number:
                raise ValueError("it is out of order, or doubled")
            found.append(DeployedRound.model_validate({key: record[key] for key in record.keys() - {SEAL, POSITION}}))
        except (ValidationError, *MALFORMED) as error:
            reason = "it is no round" if isinstance(error, ValidationError) else str(error)
            raise damaged(path, f"line {number}: {reason}", ADVICE) from error
    return found


def missing_rounds(folder: Path, known: int) -> str:
    """A line for the user where the list lacks rounds that the ledger has, and "" where it does not.

    known: the number of rounds in the ledger. A crash between the two writes loses one line; it is in no figure.
    """
    lacking = known - len(read_rounds(folder))
    return f"{folder / ROUNDS}: lacks {lacking} of {known} rounds: the report will lack them" if lacking > 0 else ""
