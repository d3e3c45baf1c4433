"""How the package's docstrings become Markdown: a parameter is an entry of a list, and an example a block of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): +(\S.*)")
_SENTENCE = re.compile(r"^(Raises|Source:) ")


class PlainDocstrings(griffe.Extension):
    """Rewrites each docstring before it is drawn."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """A docstring whose parameters stand a line each, with their names first, and whose examples begin with >>>."""
    found: list[str] = []
    example = False
    for line in docstring.splitlines():
        if example and not line.strip():
            found.append("```")
            example = False
        entry = None if example else _ENTRY.match(line)
        if not example and line.startswith(">>> "):
            found += ["", "```pycon"]
            example = True
        if entry:
            # A list begins after an empty line, and its entries follow each other without one.
            names = ", ".join(f"`{name}`" for name in entry.group(1).split(", "))
            found += ["", f"- {names}: {entry.group(2)}"]
        elif not example and _SENTENCE.match(line):
            found += ["", line]
        else:
            found.append(line)
    return "\n".join([*found, "```"] if example else found)
