"""What an audit found of a sound ledger."""

from __future__ import annotations

from hierfed.results import Record


class AuditedNode(Record):
    """A node: its public key's fingerprint, and how many rounds it contributed to, and countersigned of these.

    unsigned: the lines of rounds that it contributed to and did not countersign.
    """

    name: str
    fingerprint: str
    contributed: int
    countersigned: int
    unsigned: list[int]


class Audited(Record):
    """A ledger in which every link holds. rounds: by stage, without the abandoned ones.

    server: its public key's fingerprint; expected: whether that was compared with one that the reader knew. simulated:
    see Opening. epsilon: spent in all, None without differential privacy. sealed: whether the end is there. compared:
    the files beside the ledger that are those it speaks of.
    """

    training: str
    entries: int
    rounds: dict[str, int]
    abandoned: int
    server: str
    expected: bool
    simulated: bool
    nodes: list[AuditedNode]
    epsilon: float | None
    sealed: bool
    models: dict[str, str]
    compared: list[str]
