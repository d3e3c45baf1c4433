"""What the server asks of a node and what the node answers, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from hierfed.federated.contract import Contribution

Fact = str | int | float | bytes


@dataclass(frozen=True)
class Member:
    """A node of the federation. number: from 0, its place in every sum."""

    name: str
    number: int


@dataclass(frozen=True)
class Request:
    """What the server asks: a kind, named facts, and arrays that every node may see."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What a node answers: named facts, and arrays as a Contribution alone, which no private state can enter."""

    facts: Mapping[str, Fact] = field(default_factory=dict)
    contribution: Contribution = field(default_factory=lambda: Contribution({}))

    def __post_init__(self) -> None:
        if not isinstance(self.contribution, Contribution):
            raise TypeError(f"a node sends contributions, not {type(self.contribution).__name__}")
