"""The way that a node becomes a member: what the server's admission decides, and what it is told of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from hierfed.engines.exchange import Member, Reply, Request
from hierfed.engines.replies import NodeAnswer


class AdmissionRefused(Exception):
    """A node cannot be a member; the text is the reason."""


@dataclass(frozen=True)
class Change:
    """A node has joined, is gone, or is refused; as text, a line for people.

    name: the node's own; "" for one that has told none yet.
    """

    kind: Literal["joined", "gone", "refused"]
    name: str
    reason: str = ""

    def __str__(self) -> str:
        who = f"node {self.name}" if self.name else "a node"
        return (
            f"{who} has joined" if self.kind == "joined" else f"{who} is {self.kind}{self.reason and ': '}{self.reason}"
        )


class Admission(Protocol):
    """Decides which nodes join, and takes events."""

    def hello(self) -> Request:
        """The first request to a node."""
        ...

    def admit(self, reply: Reply) -> str:
        """The node's name from now on; raises AdmissionRefused for one that cannot be a member."""
        ...

    def number(self, name: str) -> int:
        """A member's number; it may change until there is a setup."""
        ...

    def nodes_of(self, name: str) -> Collection[str]:
        """The nodes that a member speaks for: itself, or those behind it where it is an edge."""
        ...

    def setup(self, member: Member) -> Request | None:
        """A member's setup, sent before any other request; None until it is known."""
        ...

    def on_answer(self, answer: NodeAnswer) -> None:
        """A member has answered a request, other than its setup."""
        ...

    def changed(self, change: Change) -> None:
        """Takes each coming and going."""
        ...

    def tell(self, event: str) -> None:
        """Takes a line for each other event."""
        ...

    def check(self) -> None:
        """Called again and again while the server waits; an exception ends the wait."""
        ...
