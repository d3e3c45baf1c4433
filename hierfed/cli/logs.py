"""Logs of processes that run for long: a line an event, with time and level, on standard error."""

from __future__ import annotations

import json
import logging
import time
from typing import Annotated, Literal

import typer

from hierfed.plain_text import printable

LOG = logging.getLogger("hierfed")
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", metavar="TEXT", help="text, or json: an object a line, for programs."),
]


class TextLines(logging.Formatter):
    """`2026-11-30T05:20:11+00:00 INFO node shop has joined`, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return f"{_at(record)} {record.levelname} {_text(self, record)}"


class JsonLines(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ...}`, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        told = {"time": _at(record), "level": record.levelname, "logger": record.name}
        return json.dumps(told | {"message": _text(self, record)})


FORMATS: dict[str, type[logging.Formatter]] = {"text": TextLines, "json": JsonLines}


def log_to_stderr(form: str, level: int = logging.INFO) -> None:
    """Write the package's log on standard error from now on. form: a key of FORMATS."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[form]())
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(level)


def logs_json() -> bool:
    """True where standard error is to hold JSON alone."""
    return any(isinstance(handler.formatter, JsonLines) for handler in LOG.handlers)


def _at(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(record.created))


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The message on one line."""
    reason = formatter.formatException(record.exc_info) if record.exc_info else ""
    return printable(" ".join(f"{record.getMessage()} {reason}".split()))
