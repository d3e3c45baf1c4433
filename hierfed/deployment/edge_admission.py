"""Who is behind an edge, and the server's ledger on its way to them and back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hierfed.deployment.admission import NodeAdmission
from hierfed.deployment.edges import signature_facts
from hierfed.deployment.protocol import COUNTERSIGNATURE, LEDGER, UNSIGNED, Introduction
from hierfed.engines.exchange import Fact, Request
from hierfed.engines.replies import NodeAnswer
from hierfed.errors import HierfedError
from hierfed.plain_text import plural

# Seconds in which the nodes must introduce themselves: the server waits for the edge a little longer.
INTRODUCED_WITHIN = 100.0


class Relay:
    """The server's ledger on its way through an edge: its lines go down, and what nodes sign goes up.

    public: the server's key. keys: the nodes' own, by name. Signatures are the server's to check.
    """

    def __init__(self, public: str, keys: Mapping[str, str]):
        self.public, self._keys = public, keys
        self._lines: list[bytes] = []
        self._signatures: dict[str, str] = {}
        self._reasons: dict[str, str] = {}

    def known_key(self, name: str) -> str | None:
        """A node's key; None for a node that is new."""
        return self._keys.get(name)

    def with_lines(self, setup: Request) -> Request:
        """A setup with the whole ledger so far."""
        return replace(setup, facts={**setup.facts, LEDGER: b"\n".join(self._lines)})

    def keep_countersignature(self, answer: NodeAnswer) -> str:
        """Keep what an answer says of the last entry; gives "", since the server tells who does not sign."""
        facts = {} if answer.reply is None else answer.reply.facts
        for fact, kept in ((COUNTERSIGNATURE, self._signatures), (UNSIGNED, self._reasons)):
            if isinstance(facts.get(fact), str):
                kept[answer.name] = str(facts[fact])
        return ""

    def begin(self, lines: bytes) -> None:
        """Take the whole ledger so far."""
        self._lines = lines.split(b"\n") if lines else []

    def follow(self, entries: bytes) -> None:
        """Take the last entries; those that are known stay."""
        self._lines += [line for line in entries.split(b"\n") if line not in self._lines]

    def signed(self) -> dict[str, Fact]:
        """What nodes have said since this was asked last, as facts of an answer."""
        facts = signature_facts(self._signatures, self._reasons)
        self._signatures, self._reasons = {}, {}
        return facts


@dataclass
class EdgeAdmission(NodeAdmission):
    """Admits the nodes of an edge; see NodeAdmission.

    settled: the names of the only nodes that may come; None before they are settled.
    numbers: the server's. introduced_by: the time until which they must have introduced themselves, by time.monotonic.
    """

    settled: frozenset[str] | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    introduced_by: float | None = None

    def against(self, found: Introduction) -> str:
        """See NodeAdmission."""
        if self.settled is not None and found.name not in self.settled:
            return "the nodes of this edge were settled before it came"
        return super().against(found)

    def number(self, name: str) -> int:
        """The server's number of a node."""
        return self.numbers[name] if name in self.numbers else super().number(name)

    def check(self) -> None:
        """Let the observer end the wait, and end it where nodes do not introduce themselves."""
        super().check()
        if self.introduced_by is not None and time.monotonic() > self.introduced_by:
            raise HierfedError(
                f"{plural(len(self.introduced), 'node')} alone came within "
                f"{INTRODUCED_WITHIN:g} s: see why others were refused, or lower --nodes"
            )
