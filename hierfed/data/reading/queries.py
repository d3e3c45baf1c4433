"""What the readers of databases share: the rows that a select gave, and how SQL is put together."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

_LONGEST = 300


@dataclass(frozen=True)
class Selected:
    """Rows out of a database, not yet checked.

    name: the source as messages show it, without credentials. label: what provenance calls it, with the table or the
    query. frame: columns named by role (user, item, rating, and time where there is one). columns: role to the
    select's own column.
    """

    name: str
    label: str
    frame: pl.DataFrame
    columns: dict[str, str]


def statement(query: str) -> str:
    """The query without the semicolon that a shell needs at its end."""
    return query.strip().rstrip(";").rstrip()


def quoted(name: str) -> str:
    """A name as SQL quotes it, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


def one_line(message: str) -> str:
    """A database's message, which may span lines and end in a full stop, as a part of one of ours."""
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
