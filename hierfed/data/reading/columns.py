"""The columns of a table for user, item, rating and time."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hierfed.errors import DataError

ALIASES = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movie", "movieid"),
    "rating": ("rating",),
    "time": ("timestamp", "time"),
}
_SHORTEST = 3
_REQUIRED = ("user", "item", "rating")


def find_columns(names: Sequence[str], mapping: Mapping[str, str] | None, place: str) -> dict[str, str]:
    """The file's own column for each role: user, item, rating, and time if there is one.

    Columns are found by their usual names (userId, user_id, movieId, item_id, timestamp, ...) in any case.

    mapping: role to column; it comes before any usual name. `timestamp` is another word for the role `time`.
    place: the place of the names, for messages.
    Raises DataError for a role that is unknown or missing, or for which two columns qualify.
    """
    asked = _roles(mapping or {})
    found: dict[str, str] = {}
    for role, aliases in ALIASES.items():
        if role in asked:
            if asked[role] not in names:
                raise DataError(
                    f"{place}: no column {asked[role]!r} for the {role}{nearest(asked[role], names)}; "
                    f"the columns are {', '.join(names)}"
                )
            found[role] = asked[role]
            continue
        fitting = [name for name in names if _plain(name) in aliases and name not in asked.values()]
        if len(fitting) > 1:
            raise DataError(f"{place}: columns {' and '.join(fitting)} could both be the {role}; map one of them")
        if fitting:
            found[role] = fitting[0]
        elif role in _REQUIRED:
            raise DataError(_missing(role, names, place))
    repeated = next((name for name in found.values() if list(found.values()).count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"column {repeated!r} is mapped to more than one of {', '.join(ALIASES)}")
    return found


def require(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raise DataError for the first of the `wanted` columns that the file lacks."""
    for name in wanted:
        if name not in names:
            raise DataError(
                f"{path}, line 1: no column {name!r}{nearest(name, names)}; the columns are {', '.join(names)}"
            )


def nearest(name: str, names: Sequence[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `names`, or an empty string if none is near."""
    by_plain = {_plain(other): other for other in names}
    # A shortened name ("tmdb" for "tmdbId") is nearer than a name with another letter ("imdbId").
    shortened = [plain for plain in by_plain if len(plain) >= _SHORTEST and _plain(name).startswith(plain)]
    near = shortened or difflib.get_close_matches(_plain(name), list(by_plain), n=1)
    return f" (did you mean {by_plain[near[0]]!r}?)" if near else ""


def _roles(mapping: Mapping[str, str]) -> dict[str, str]:
    roles = {"time" if role == "timestamp" else role: column for role, column in mapping.items()}
    for role in roles:
        if role not in ALIASES:
            raise DataError(
                f"columns: unknown role {role!r}{nearest(role, list(ALIASES))}; roles: {', '.join(ALIASES)}"
            )
    return roles


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "")


def _missing(role: str, names: Sequence[str], place: str) -> str:
    hints = [hint for alias in ALIASES[role] if (hint := nearest(alias, names))]
    data = bool(names) and all(name.replace(".", "", 1).isdigit() for name in names)
    start = "the first line holds numbers, expected column names: " if data else ""
    return (
        f"{place}: {start}no column for the {role}{hints[0] if hints else ''}; found {', '.join(names) or 'none'}; "
        f"expected {' or '.join(ALIASES[role])}, or a column mapped to {role!r}"
    )
