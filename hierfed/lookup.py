"""Names that users give, looked up in a table; a name that the table does not know is an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from hierfed.errors import SettingsError

Entry = TypeVar("Entry")


def look_up(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """The table's entry of this name.

    kind: what the table holds, such as `method`, for the message.
    Raises SettingsError, with the nearest name and all names, for a name that is not in the table.
    """
    if name not in table:
        raise SettingsError(f"no {kind} '{name}'{nearest(name, table)}; there are: {', '.join(sorted(table))}")
    return table[name]


def nearest(word: str, choices: Iterable[str]) -> str:
    """`, did you mean 'rounds'?` with the choice that is most like the word; empty where none is like it."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f", did you mean '{close[0]}'?" if close else ""
