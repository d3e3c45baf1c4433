"""Checksums of what is read back: a file that is not as it was written is refused, in one line.

JSON and safetensors files hold the sha256 of their own content, under the name `sha256`. Files of versions before these
have none, and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierfed.errors import DamagedError

SEAL = "sha256"
ELSE = "put it back from a copy, or make it again"
# Everything that malformed bytes raise in the parsers below.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, IndexError)


def json_digest(record: Mapping[str, Any]) -> str:
    """sha256 of a record of JSON, whatever its layout; the seal itself is left out."""
    rest = {key: value for key, value in record.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed_json(record: Mapping[str, Any]) -> bytes:
    """A record as JSON with its seal."""
    return json.dumps({**record, SEAL: json_digest(record)}, indent=1).encode()


def read_json(path: Path, advice: str = ELSE, always: bool = False) -> dict[str, Any]:
    """The record in a file, without its seal; raises DamagedError for a file that is not as it was written.

    always: True for a file that every version has sealed. What is left of such a file may be a record without a seal.
    """
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise TypeError("holds no record")
        if always and SEAL not in found:
            raise ValueError("its content is not what was written")
    except (OSError, *MALFORMED) as error:
        raise damaged(path, error, advice) from error
    check_json(found, path, advice)
    return {key: value for key, value in found.items() if key != SEAL}


def check_json(found: Mapping[str, Any], path: Path, advice: str = ELSE) -> None:
    """Raise DamagedError where a record has a seal, and it is of another content."""
    if found.get(SEAL, "") not in ("", json_digest(found)):
        raise damaged(path, ValueError("its content is not what was written"), advice)


def tensors_digest(content: bytes) -> str:
    """sha256 of a safetensors file over its facts and tensors in the order of their names; the seal is left out.

    Two files of the same tensors can differ in the order of facts. Raises one of MALFORMED for other bytes.
    """
    return _digest(*_parts(content))


def _digest(header: dict[str, Any], values: memoryview) -> str:
    facts = dict(header.get("__metadata__", {}))
    facts.pop(SEAL, None)
    state = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, entry in sorted(item for item in header.items() if item[0] != "__metadata__"):
        first, last = entry["data_offsets"]
        state.update(json.dumps([name, entry["dtype"], entry["shape"], last - first]).encode())
        state.update(values[first:last])
    return state.hexdigest()


def sealed_tensors(content: bytes) -> bytes:
    """A safetensors file with its seal among its facts, which are sorted."""
    header, values = _parts(content)
    facts = {**header.get("__metadata__", {}), SEAL: tensors_digest(content)}
    header["__metadata__"] = dict(sorted(facts.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + values


def tensor_facts(content: bytes) -> dict[str, str]:
    """The facts of a safetensors file whose seal holds, without it.

    Raises ValueError where the seal is of another content, and one of MALFORMED for other bytes.
    """
    header, values = _parts(content)
    facts = dict(header.get("__metadata__", {}))
    if facts.pop(SEAL, None) not in (None, _digest(header, values)):
        raise ValueError("its content is not what was written")
    return facts


def bytes_digest(content: bytes) -> str:
    """sha256 of any bytes."""
    return hashlib.sha256(content).hexdigest()


def damaged(path: Path, error: BaseException | str, advice: str = ELSE) -> DamagedError:
    """The error of a damaged file."""
    reason = str(error) or type(error).__name__
    return DamagedError(f"{path}: damaged: {reason}; {advice}")


def _parts(content: bytes) -> tuple[dict[str, Any], memoryview]:
    # https://huggingface.co/docs/safetensors: the header's length in 8 bytes, the header in JSON, the tensors.
    begins = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begins])
    if not isinstance(header, dict):
        raise TypeError("has no header")
    return header, memoryview(content)[begins:]
