"""Text from outside, made fit to be shown: no control characters, one line, not too long."""

from __future__ import annotations

LONGEST = 600
GAP = " ... "
# Advice stands at a message's end.
KEPT_END = 150


def printable(text: str, longest: int = LONGEST) -> str:
    """Text from outside without control characters, on one line; of a long one the beginning and the end.

    longest: in characters. Escape sequences lose their escape character, so that no terminal obeys them.
    """
    if len(text) > longest:
        end = min(KEPT_END, longest // 4)
        text = text[: longest - end - len(GAP)] + GAP + text[-end:]
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
