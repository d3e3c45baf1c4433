"""Digests of files beside a ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from hierfed.errors import HierfedError


def file_digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The digests of those of the files that exist; see file_digest."""
    return {name: file_digest(folder / name) for name in names if (folder / name).is_file()}


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; of a safetensors file, over its facts and tensors in the order of their names.

    Two files of the same tensors can differ in the order of facts. Raises HierfedError for an unreadable file.
    """
    try:
        content = path.read_bytes()
        return _tensors_digest(content) if path.suffix == ".safetensors" else hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HierfedError(f"{path}: cannot be read: {error}") from error


def _tensors_digest(content: bytes) -> str:
    # https://huggingface.co/docs/safetensors: the header's length in 8 bytes, the header in JSON, the tensors.
    begins = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begins])
    state = hashlib.sha256(json.dumps(header.pop("__metadata__", {}), sort_keys=True).encode())
    values = memoryview(content)[begins:]
    for name, entry in sorted(header.items()):
        first, last = entry["data_offsets"]
        state.update(json.dumps([name, entry["dtype"], entry["shape"], last - first]).encode())
        state.update(values[first:last])
    return state.hexdigest()
