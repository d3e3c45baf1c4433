"""The server's requests and the nodes' replies, over any transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hierfed.federated.contract import Contribution

Fact = str | int | float | bytes

REFUSAL = "refusal"
"""The fact of a reply that says why a node takes no part."""


@dataclass(frozen=True)
class Member:
    """A node of the federation. number: from 0, its place in every sum."""

    name: str
    number: int


@dataclass(frozen=True)
class Request:
    """The server's request: a kind, named facts, and arrays that every node may see."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A node's reply: named facts, and arrays as a Contribution alone, which cannot hold private state."""

    facts: Mapping[str, Fact] = field(default_factory=dict)
    contribution: Contribution = field(default_factory=lambda: Contribution({}))

    def __post_init__(self) -> None:
        if not isinstance(self.contribution, Contribution):
            raise TypeError(f"a node sends contributions, not {type(self.contribution).__name__}")
