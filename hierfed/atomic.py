"""Files that are whole or not there, whenever the process ends, and files that one process holds at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hierfed.errors import HierfedError, storing


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new one, and nothing between.

    Where that fails, a StorageError says why, and nothing new is left behind.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    with storing(path):
        # What a crash has left may be readable by others.
        unfinished.unlink(missing_ok=True)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """The same for a file that is written bit by bit: the block writes the path that it is given.

    Where the block fails, nothing new is left behind.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def held(path: Path) -> IO[str]:
    """Make a file, and hold it until it is closed or this process ends; raises BlockingIOError where another does."""
    file = path.open("w")
    try:
        _lock(file)
    except BaseException:
        file.close()
        raise
    return file


def is_held(path: Path) -> bool:
    """True for a file that a process holds; nothing is changed."""
    try:
        with path.open("r") as file:
            _lock(file, shared=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock(file: IO[str], shared: bool = False) -> None:
    """Lock a file for this process. Raises HierfedError where the system has no such locks.

    shared: with all others who lock it so; it then is not locked for one.
    """
    try:
        import fcntl  # noqa: PLC0415 - Windows has none, and `hierfed run` needs none
    except ImportError as error:
        raise HierfedError("servers and nodes need the file locks of Linux or macOS; `hierfed run` does not") from error
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _sync(path: Path) -> None:
    """Wait until the file, or the folder's list of files, is on disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
