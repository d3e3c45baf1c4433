"""A ledger's file: lines are appended, and never changed."""

from __future__ import annotations

import os
from pathlib import Path

from hierfed.errors import HierfedError
from hierfed.ledger.chain import BrokenLink, Chain
from hierfed.ledger.entries import Entry, RoundEntry


class Book:
    """The ledger in a file, which need not exist; an incomplete last line, left by a crash, is cut off.

    Raises HierfedError, which names the first broken link, for a file with any change.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: list[bytes] = []
        self.chain = Chain()
        if not path.is_file():
            return
        written = path.read_bytes()
        whole = written.rfind(b"\n") + 1
        self.chain = read_chain(written[:whole], path)
        self._lines = written[:whole].split(b"\n")[:-1]
        # A file that is refused stays as it is.
        if whole < len(written):
            os.truncate(path, whole)

    def append(self, written: bytes) -> Entry:
        """Write a line, given without its line feed, to the disk; raises BrokenLink for one that does not fit."""
        entry = self.chain.extend(written)
        self._lines.append(written)
        with self.path.open("ab") as file:
            file.write(written + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def lines(self, first: int = 0) -> list[bytes]:
        """The lines from a position on, without their line feeds."""
        return self._lines[first:]


def read_chain(written: bytes, path: Path) -> Chain:
    """The whole ledger in a file's bytes; raises HierfedError, which names the first broken link."""
    chain = Chain()
    *lines, unfinished = written.split(b"\n")
    for number, line in enumerate([*lines, unfinished] if unfinished else lines, 1):
        try:
            chain.extend(line)
            if number > len(lines):
                raise BrokenLink("has no end: its line was cut off")
        except BrokenLink as broken:
            raise HierfedError(f"{path}, line {number}{_after(chain)}: the entry {broken}") from broken
    return chain


def name_of(entry: Entry) -> str:
    """An entry in words."""
    return f"round {entry.round} of '{entry.stage}'" if isinstance(entry, RoundEntry) else f"the {entry.kind}"


def _after(chain: Chain) -> str:
    return "" if chain.last is None else f", after {name_of(chain.last)}"
