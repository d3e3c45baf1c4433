"""Declarations of the arrays that a method's nodes send and receive.

docs/privacy.md and the checks of messages follow them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FEATURES, RATING, EASE, IMPLICIT = "features", "rating", "ease", "implicit"
"""The stages whose messages are declared."""

Purposes = Mapping[str, str]
"""Names of arrays, each with its purpose."""


@dataclass(frozen=True)
class Sums:
    """The arrays that nodes send in some rounds of a stage, in the clear or under masks.

    when: names these rounds.
    """

    stage: str
    when: str
    arrays: Purposes


@dataclass(frozen=True)
class Model:
    """The arrays of a stage that nodes receive: in each round, at the end, and when they come back."""

    stage: str
    arrays: Purposes
