"""Build hook: a link from a page to a file outside docs/ becomes the file's path, since the site does not hold it."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(hierfed|tests|benchmarks|examples|deploy|README\.md)([^)\s]*)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with such links as `text (path)`, or the path alone where it is the text."""

    def path_of(found: re.Match[str]) -> str:
        text, path = found.group(1), found.group(2) + found.group(3)
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return _OUTSIDE.sub(path_of, markdown)
