"""Build hook: links to files outside docs/, which the site does not hold, become their paths; figures can be read."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(hierfed|tests|benchmarks|examples|deploy|README\.md)([^)\s]*)\)")
_DEVIATION = re.compile(r"[\d.,]+ ± [\d.,]+")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with such links as `text (path)`, or the path alone where it is the text.

    A number in a table stays on one line with its deviation, and a picture is a link to itself, to be made larger.
    """

    def path_of(found: re.Match[str]) -> str:
        text, path = found.group(1), found.group(2) + found.group(3)
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    lines = _PICTURE.sub(r"[\g<0>](\1)", _OUTSIDE.sub(path_of, markdown)).splitlines()
    return "\n".join(
        _DEVIATION.sub(r'<span class="number">\g<0></span>', line) if line[:1] == "|" else line for line in lines
    )
