"""Printing on standard output and standard error: whatever comes from outside loses its control characters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hierfed.plain_text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType


def say(line: str) -> None:
    """Print a line on standard error."""
    typer.echo(printable(line), err=True)


def print_content(content: RenderableType) -> None:
    """Print a table or a text of rich's."""
    from hierfed.report.console import PlainConsole  # noqa: PLC0415

    PlainConsole().print(content)


def print_path(what: str, path: Path) -> None:
    """Print a path on a line of its own, whole even where the line is longer than the terminal."""
    from rich.text import Text  # noqa: PLC0415

    from hierfed.report.console import PlainConsole  # noqa: PLC0415

    PlainConsole().print(Text.assemble(f"{what}: ", (str(path), "bold")), soft_wrap=True)
