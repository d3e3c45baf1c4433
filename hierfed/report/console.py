"""A terminal to which no text from outside can give orders."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hierfed.plain_text import printable


class PlainConsole(Console):
    """A console of rich's that strips control characters from every text, and knows its own orders alone.

    Titles, names of nodes, refusals and file names come from outside. What they hold of escape sequences would move
    the cursor, recolour the screen or write into the clipboard.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See Console."""
        for segment in super().render(renderable, options):
            yield segment if segment.control or _harmless(segment.text) else _stripped(segment)


def _harmless(text: str) -> bool:
    return text.replace("\n", "").isprintable()


def _stripped(segment: Segment) -> Segment:
    lines = [printable(f"|{line}|", len(line) + 2)[1:-1] for line in segment.text.split("\n")]
    return Segment("\n".join(lines), segment.style)
