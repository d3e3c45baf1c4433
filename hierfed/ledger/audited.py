"""The findings of an audit of a sound ledger."""

from __future__ import annotations

from hierfed.results import Record


class AuditedNode(Record):
    """A node in the ledger.

    fingerprint: of its public key.
    contributed: the number of rounds that it contributed to.
    countersigned: the number of these that it countersigned.
    unsigned: the lines of rounds that it contributed to and did not countersign.
    """

    name: str
    fingerprint: str
    contributed: int
    countersigned: int
    unsigned: list[int]


class Audited(Record):
    """A ledger in which every link holds.

    rounds: by stage, without the abandoned ones.
    server: its public key's fingerprint.
    expected: True if that equals the fingerprint that the reader gave.
    simulated: see Opening.
    epsilon: spent in all; None without differential privacy.
    sealed: True if the end is there.
    compared: the files beside the ledger that agree with it.
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
