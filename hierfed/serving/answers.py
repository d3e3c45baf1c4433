"""Recommendations of a run, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Twin:
    """An own rating that is nearly a duplicate of another. item: the source's own id."""

    item: str
    title: str
    rating: float


@dataclass(frozen=True)
class Reason:
    """An own rating that moved a prediction: the expected rating minus the one that a fit without it gives.

    item: the source's own id.
    moved: on the scale of the ratings; above 0 where the rating raised the prediction.
    twin: a near duplicate that is left out together with it, since each makes up for the other; else None.
    """

    item: str
    title: str
    rating: float
    moved: float
    twin: Twin | None = None


@dataclass(frozen=True)
class Recommendation:
    """An item, its expected rating with the interval that holds it nine times in ten, and why.

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
    rated: False where all ratings are one, as in data that say what was seen alone; `rating` then says nothing.
    """

    user: str
    known: bool
    ordered_by: Literal["score", "rating"]
    items: tuple[Recommendation, ...]
    rated: bool = True
