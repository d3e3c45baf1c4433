"""Declarations of what a method's nodes send and receive, which docs/privacy.md and the checks of messages follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FEATURES, RATING, EASE, IMPLICIT = "features", "rating", "ease", "implicit"
"""The stages whose messages are declared."""

Purposes = Mapping[str, str]
"""Names, each with what it is for."""


@dataclass(frozen=True)
class Sums:
    """The arrays that nodes send to some rounds of a stage, in the clear or under masks; when: which rounds."""

    stage: str
    when: str
    arrays: Purposes


@dataclass(frozen=True)
class Model:
    """The arrays that nodes receive of a stage: with each of its rounds, at its end, and as they come back."""

    stage: str
    arrays: Purposes
