"""Digests of files beside a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hierfed.errors import HierfedError, reason_of
from hierfed.sealed import MALFORMED, bytes_digest, tensors_digest


def file_digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The digests of those of the files that exist; see file_digest."""
    return {name: file_digest(folder / name) for name in names if (folder / name).is_file()}


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; of a safetensors file, over its facts and tensors in the order of their names.

    Two files of the same tensors can differ in the order of facts. Raises HierfedError for an unreadable file.
    """
    try:
        content = path.read_bytes()
        return tensors_digest(content) if path.suffix == ".safetensors" else bytes_digest(content)
    except (OSError, *MALFORMED) as error:
        raise HierfedError(f"{path}: cannot be read: {reason_of(error)}") from error
