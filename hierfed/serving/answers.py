"""Recommendations of a run, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Reason:
    """An own rating that moved a prediction, and by how many stars. item: the source's own id."""

    item: str
    title: str
    rating: float
    moved: float


@dataclass(frozen=True)
class Recommendation:
    """An item, its expected rating in stars with the interval that holds it nine times in ten, and why.

    lowest, highest: None where the model does not say how sure it is.
    rank: from 1. item: the source's own id. score: orders lists, and has no unit. seen: whether the user has
    rated it.
    """

    rank: int
    item: str
    title: str
    rating: float
    lowest: float | None
    highest: float | None
    score: float
    seen: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Answer:
    """Items for a user, best first. known: whether the run knows the user; else they suit anyone.

    ordered_by: `score`, or the expected `rating`, which the score then equals.
    """

    user: str
    known: bool
    ordered_by: Literal["score", "rating"]
    items: tuple[Recommendation, ...]
