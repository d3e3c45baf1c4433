"""Printing on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_content(content: RenderableType) -> None:
    """Print a table or a text of rich's."""
    from rich.console import Console  # noqa: PLC0415

    Console().print(content)


def print_path(what: str, path: Path) -> None:
    """Print a path on a line of its own, whole even where the line is longer than the terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    Console().print(Text.assemble(f"{what}: ", (str(path), "bold")), soft_wrap=True)
