"""What a run recommends, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """An own rating that moved a prediction, and by how many stars."""

    title: str
    rating: float
    moved: float


@dataclass(frozen=True)
class Recommendation:
    """An item, its expected rating in stars with the interval that holds it nine times in ten, and why."""

    item: int
    title: str
    rating: float
    lowest: float
    highest: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Answer:
    """Items for a user, best first. known: whether the run knows the user; else they suit anyone."""

    user: str
    known: bool
    items: tuple[Recommendation, ...]
