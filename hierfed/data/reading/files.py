"""Data files: present, not empty, and unchanged from the first byte to the last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hierfed.errors import DataError, reason_of


@dataclass(frozen=True)
class FileState:
    """A file's inode, size and time of change, which reveal a change of content without reading it.

    changed: in nanoseconds.
    """

    inode: int
    size: int
    changed: int


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises DataError if it is missing, empty, not a file, or may not be read."""
    with _explained(path):
        raw = path.read_bytes()
    if not raw:
        raise DataError(f"{path}: the file is empty")
    return raw


def file_state(path: Path) -> FileState:
    """The file's state now. Raises DataError if it is missing or empty."""
    with _explained(path):
        found = path.stat()
    if not found.st_size:
        raise DataError(f"{path}: the file is empty")
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes. Raises DataError as `read_bytes` does."""
    with _explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: file not found") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from error
