"""Text from outside, made fit to be shown: one line, without control characters, and not endless."""

from __future__ import annotations

MOST_SHOWN = 300


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """The text in one line of at most so many characters; what cannot be printed becomes a space."""
    start = str(text)[: 4 * most]
    line = " ".join("".join(each if each.isprintable() else " " for each in start).split())
    return line if len(line) <= most else line[: most - 1] + "\u2026"
