"""Printing on standard output and standard error: whatever comes from outside loses its control characters."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hierfed.plain_text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType


def say(line: str) -> None:
    """Print a line on standard error."""
    typer.echo(printable(line), err=True)


def print_what_can_be() -> None:
    """Let both streams write `\\u2026` for a character that their encoding lacks, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(text: str) -> None:
    """Print JSON in ASCII, which every encoding has, so that it stays JSON."""
    sys.stdout.write(json.dumps(json.loads(text), indent=1) + "\n")


def print_content(content: RenderableType) -> None:
    """Print a table or a text of rich's."""
    from hierfed.report.console import PlainConsole  # noqa: PLC0415

    PlainConsole().print(content)


def print_path(what: str, path: Path) -> None:
    """Print a path on a line of its own, whole even where the line is longer than the terminal."""
    from rich.text import Text  # noqa: PLC0415

    from hierfed.report.console import PlainConsole  # noqa: PLC0415

    PlainConsole().print(Text.assemble(f"{what}: ", (str(path), "bold")), soft_wrap=True)
