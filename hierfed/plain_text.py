"""Text that is shown: from outside without control characters, on one line and not too long; counts with their noun."""

from __future__ import annotations

LONGEST = 600
GAP = " ... "
# Advice stands at a message's end.
KEPT_END = 150


def printable(text: object, longest: int = LONGEST) -> str:
    """Text from outside without control characters, on one line; of a long one the beginning and the end.

    longest: in characters. Escape sequences lose their escape character, so that no terminal obeys them.
    """
    line = str(text)
    if len(line) > longest:
        end = min(KEPT_END, longest // 4)
        line = line[: longest - end - len(GAP)] + GAP + line[-end:]
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()


def plural(number: int, noun: str) -> str:
    """A count with its noun: `1 node`, `1,000 nodes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
