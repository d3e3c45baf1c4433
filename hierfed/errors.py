"""The errors that a user can meet: one line each, with the exit code of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hierfed.plain_text import printable


class HierfedError(Exception):
    """Something the user can put right; the message says what is wrong, where, and what to do.

    message: shown on one line, without control characters, and cut where it is too long.

    >>> try:
    ...     hierfed.load("nowhere")
    ... except hierfed.HierfedError as error:
    ...     print(error)
    nowhere: no run to recommend from; runs are under runs/
    """

    exit_code = 1

    def __init__(self, message: str = ""):
        super().__init__(printable(message))


class NotPersonalisedError(HierfedError):
    """A node whose users have no models of their own yet (exit code 3)."""

    exit_code = 3


class DataError(HierfedError):
    """The data cannot be used as they are (exit code 2)."""

    exit_code = 2


class SettingsError(HierfedError):
    """A setting is unknown, has the wrong type, or does not fit another one (exit code 2)."""

    exit_code = 2


class DamagedError(HierfedError):
    """A file that hierfed has written is not as it was written."""


def reason_of(error: Exception) -> str:
    """The reason of an error in words; of one of the system, without its number and without the path."""
    words = error.strerror if isinstance(error, OSError) else str(error)
    return words or type(error).__name__


class StorageError(HierfedError, OSError):
    """A file that cannot be written: the disk is full, or may not be written to.

    path: the file. error: the reason, as the system gives it.
    It is an OSError too, so that whoever takes those takes it.
    """

    def __init__(self, path: Path, error: OSError):
        super().__init__(
            f"{path}: cannot be written: {reason_of(error)}; put that right, then run the same command again"
        )
        self.errno, self.strerror, self.filename = error.errno, error.strerror, os.fspath(path)

    def __str__(self) -> str:
        # An OSError makes a text of its own of these three.
        return str(self.args[0])


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn a failure to write within the block into a StorageError; path: named where the system names no file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        named = error.filename
        where = Path(named) if isinstance(named, str) and named else path
        raise StorageError(where, error) from error
