"""A ledger without a server: each entry holds a signed statement of every peer, and the next ones sign it again.

A peer that shows two histories has signed two statements of one place. Where two peers' entries differ, the two lines
are the proof, and name it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from hierfed.errors import HierfedError
from hierfed.ledger.chain import BrokenLink
from hierfed.ledger.entries import Digest, Position, Signature, Training, canonical, line_hash
from hierfed.ledger.keys import is_public, is_signed
from hierfed.results import Record
from hierfed.sealed import damaged

Kind = TypeVar("Kind", bound=Record)

FILE = "peers.jsonl"
# The stage of the last entry: with it all members have signed that they have all that they need.
END = "end"
Finite = Annotated[float, Field(allow_inf_nan=False)]
_SIGNED = b"hierfed peer's statement\n"


class PeersOpening(Record):
    """The first line: what all peers agreed on. peers: the public keys that they sign with, by name."""

    training: Training
    settings: Digest
    catalogue: Digest
    limits: tuple[Finite, Finite]
    peers: dict[str, str]


class Statement(Record):
    """A peer's statement on a round.

    position: the number of lines before the entry. previous: sha256 of the last of them.
    view: how often the peers had to agree anew who is there. members: those that are.
    model: sha256 of the peer's own copy of the model; copies differ by rounding.
    """

    training: Training
    position: Position
    previous: Digest
    view: Position
    stage: str
    round: Annotated[int, Field(strict=True)]
    members: list[str]
    model: Digest


class Signed(Record):
    """A statement with its peer's signature."""

    statement: Statement
    signature: Signature


class SharedEntry(Record):
    """A line: the statements of all members, by name."""

    said: dict[str, Signed]


def sign(key: Ed25519PrivateKey, statement: Statement) -> Signed:
    """The statement, signed."""
    return Signed(statement=statement, signature=key.sign(_SIGNED + canonical(statement)).hex())


def read_entry(line: bytes) -> SharedEntry:
    """The entry in a line; raises BrokenLink for bytes that are none."""
    return _read(SharedEntry, line)


def read_signed(line: bytes) -> Signed:
    """The signed statement in these bytes; raises BrokenLink for bytes that are none."""
    return _read(Signed, line)


def two_histories(lines: Iterable[bytes], peers: Mapping[str, str]) -> list[str]:
    """The peers that have signed two different statements of one place in these lines, whoever shows them.

    peers: their public keys, by name. What a peer has not signed proves nothing against it.
    """
    found: dict[tuple[str, int, int], Statement] = {}
    named: set[str] = set()
    for line in lines:
        try:
            entry = read_entry(line)
        except BrokenLink:
            continue
        for name, signed in entry.said.items():
            said = signed.statement
            if name not in peers or not _is_of(signed, peers[name]):
                continue
            first = found.setdefault((name, said.position, said.view), said)
            if first.training == said.training and first != said:
                named.add(name)
    return sorted(named)


class SharedLedger:
    """The lines that one peer has seen, in a file where it has one; each was signed by every member.

    A peer that comes back begins anew: the file of an earlier training is kept under that one's name. Raises
    DamagedError where the file does not tell it; see former_training.
    """

    def __init__(self, opening: PeersOpening, folder: Path | None = None):
        _check_opening(opening)
        self.opening, self.lines, self._path = opening, list[bytes](), None if folder is None else folder / FILE
        former = None if folder is None else former_training(folder)
        if self._path is not None and former is not None:
            self._path.rename(self._path.with_name(f"peers-{former}.jsonl"))
        self._keep(canonical(opening))

    @property
    def head(self) -> str:
        """sha256 of the last line."""
        return line_hash(self.lines[-1])

    @property
    def position(self) -> int:
        """The number of lines."""
        return len(self.lines)

    def check(self, name: str, signed: Signed) -> None:
        """Raise BrokenLink for a statement that cannot stand in the next line."""
        said = signed.statement
        if name not in self.opening.peers or not _is_of(signed, self.opening.peers[name]):
            raise BrokenLink(f"of {name!r} is not what that peer signed")
        if said.training != self.opening.training or said.position != self.position:
            raise BrokenLink(f"of {name!r} is of another training or another place")
        if said.previous != self.head:
            raise BrokenLink(f"of {name!r} follows another history than this one")
        if name not in said.members:
            raise BrokenLink(f"of {name!r} does not count itself in")

    def append(self, said: Mapping[str, Signed]) -> bytes:
        """Write the line of these statements; raises BrokenLink where they are not all members' of one round."""
        for name, signed in said.items():
            self.check(name, signed)
        common = {_common(signed.statement) for signed in said.values()}
        if len(common) != 1 or sorted(said) != sorted(next(iter(said.values())).statement.members):
            raise BrokenLink("is of other rounds or other members than it should be")
        line = canonical(SharedEntry(said=dict(sorted(said.items()))))
        self._keep(line)
        return line

    def adopt(self, line: bytes) -> None:
        """Write a line that another peer shows; raises BrokenLink for one that does not fit."""
        entry = read_entry(line)
        if canonical(SharedEntry(said=dict(sorted(entry.said.items())))) != line:
            raise BrokenLink("is not written as entries are")
        self.append(entry.said)

    def _keep(self, line: bytes) -> None:
        self.lines.append(line)
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def former_training(folder: Path) -> str | None:
    """The training of the ledger in this folder; None without one. Raises DamagedError where its first line is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.readline()
    try:
        return _opening(first.removesuffix(b"\n")).training
    except BrokenLink as broken:
        advice = "put it back from a copy, or move it away: a new training writes its own"
        raise damaged(path, f"line 1: the entry {broken}", advice) from broken


def read_shared(path: Path) -> SharedLedger:
    """The ledger in a file, checked line by line; raises HierfedError, which names the first line that does not fit."""
    *lines, unfinished = path.read_bytes().split(b"\n")
    ledger: SharedLedger | None = None
    try:
        if unfinished or not lines:
            raise BrokenLink("has no end: its line was cut off")
        ledger = SharedLedger(_opening(lines[0]))
        for line in lines[1:]:
            ledger.adopt(line)
    except BrokenLink as broken:
        number = 1 if ledger is None else ledger.position + 1
        raise HierfedError(f"{path}, line {number}: the entry {broken}") from broken
    return ledger


class SharedAudit(Record):
    """The findings of an audit of a sound ledger of peers.

    signed: the entries that each has signed, by name. sealed: True if the end is there.
    """

    training: str
    entries: int
    signed: dict[str, int]
    rounds: dict[str, int]
    members: list[str]
    sealed: bool


def audit_shared(path: Path) -> SharedAudit:
    """An audit of the ledger in a file; raises HierfedError, which names the first line that does not fit."""
    ledger = read_shared(path)
    entries = [list(read_entry(line).said.values()) for line in ledger.lines[1:]]
    last = entries[-1][0].statement.members if entries else list(ledger.opening.peers)
    rounds = Counter(said[0].statement.stage for said in entries)
    names = Counter(name for line in ledger.lines[1:] for name in read_entry(line).said)
    signed = {name: names[name] for name in ledger.opening.peers}
    return SharedAudit(
        training=ledger.opening.training,
        entries=len(ledger.lines),
        signed=signed,
        rounds=dict(rounds),
        members=last,
        sealed=bool(entries) and entries[-1][0].statement.stage == END,
    )


def _common(said: Statement) -> tuple[object, ...]:
    return said.view, said.stage, said.round, tuple(said.members)


def _is_of(signed: Signed, key: str) -> bool:
    return is_signed(key, signed.signature, _SIGNED + canonical(signed.statement))


def _check_opening(opening: PeersOpening) -> None:
    keys = list(opening.peers.values())
    if len(set(keys)) < len(keys) or not all(is_public(key) for key in keys):
        raise BrokenLink("has a key twice, or one that is none")


def _opening(line: bytes) -> PeersOpening:
    opening = _read(PeersOpening, line)
    if canonical(opening) != line:
        raise BrokenLink("is not written as entries are")
    return opening


def _read(kind: type[Kind], line: bytes) -> Kind:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise BrokenLink(f"cannot be read: {error.errors(include_input=False)[0]['msg']}") from error
