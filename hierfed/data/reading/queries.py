"""Shared tools of the database readers: the rows of a select, and the composition of SQL."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

_LONGEST = 300


@dataclass(frozen=True)
class Selected:
    """Rows from a database, not yet checked.

    name: the source as messages show it, without credentials.
    label: the source as provenance names it, with the table or the query.
    frame: columns named by role (user, item, rating, and time if there is one).
    columns: role to the select's own column.
    """

    name: str
    label: str
    frame: pl.DataFrame
    columns: dict[str, str]


def statement(query: str) -> str:
    """The query without the semicolon at its end that a shell needs."""
    return query.strip().rstrip(";").rstrip()


def quoted(name: str) -> str:
    """A name quoted for SQL, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def one_line(message: str) -> str:
    """A database's message, which may span lines and end in a full stop, as part of a message of this package."""
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
