"""A training of a run. Free of torch, so that methods can declare theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierfed.federated.contract import SharedModel, SumMethod

RATING = "rating"
"""The name of the stage that trains the model of ratings."""


@dataclass(frozen=True)
class Stage:
    """A training of a run.

    name: such as RATING. rounds: the number of its rounds.
    build: gives the method from the finished shared models of the stages before, by name.
    before: the round of its first shared model; below 0 while opening rounds are to come.
    """

    name: str
    rounds: int
    build: Callable[[Mapping[str, SharedModel]], SumMethod]
    before: int = 0
