"""A table that page and terminal show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Headings and rows, the first column being names and the others numbers.

    title: what the terminal writes above it. own: the places of rows that stand out.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    own: frozenset[int] = frozenset()
