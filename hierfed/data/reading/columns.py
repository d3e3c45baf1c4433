"""The columns of a table for user, item, rating and time."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hierfed.errors import DataError

# The usual names of each role, and after them those that count only where no earlier one is there.
ALIASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("user", "userid"),
        ("reviewerid", "customerid", "memberid", "profileid", "uid"),
        ("reviewer", "customer", "member", "username", "profilename", "reviewprofilename"),
    ),
    "item": (
        ("item", "itemid", "movie", "movieid"),
        ("parentasin",),
        *(
            tuple(name for kind in kinds for name in (kind, f"{kind}id"))
            for kinds in (
                ("film", "book", "anime", "place", "joke", "product", "track", "game", "recipe", "business"),
                ("artist", "song", "album", "show", "article", "beer", "beerbeer", "restaurant", "hotel", "course"),
            )
        ),
        ("isbn", "asin", "iid"),
    ),
    "rating": (("rating",), ("stars", "score", "overall", "bookrating", "reviewoverall", "userrating", "starrating")),
    "time": (
        ("timestamp", "time"),
        ("unixtime", "unixreviewtime", "reviewtimestamp", "ratingtimestamp", "tstamp", "ts", "epoch"),
        ("datetime", "date", "createdat", "ratedat", "ratingdate", "reviewdate"),
        ("reviewtime",),
    ),
}
_SHORTEST = 3
_MOST, _SHOWN = 12, 40
# A table with so many columns, none of them an item's, has a column for each item.
_WIDE = 20
_REQUIRED = ("user", "item", "rating")
# What to do where no rating is there at all; the readers of databases want the column.
IMPLICIT = "; or --implicit, where each row says that the user has seen the item (a query: with `1 as rating` too)"


def find_columns(
    names: Sequence[str], mapping: Mapping[str, str] | None, place: str, implicit: bool = False
) -> dict[str, str]:
    """The file's own column for each role: user, item, rating, and time if there is one.

    Columns are found by their usual names (userId, user_id, movieId, item_id, timestamp, ...) in any case.

    mapping: role to column or its number from 1; it comes before any usual name. `timestamp` is another word for the
    role `time`, and an empty name for it leaves the times out.
    place: the place of the names, for messages.
    implicit: True to leave out the rating.
    Raises DataError for a role that is unknown or missing, or for which two columns qualify.
    """
    asked = {role: named(column, names) for role, column in _roles(mapping or {}).items()}
    found: dict[str, str] = {}
    for role in ALIASES:
        if role == "rating" and implicit:
            continue
        if role in asked:
            if role == "time" and not asked[role]:
                continue
            if asked[role] not in names:
                raise DataError(
                    f"{place}: no column {asked[role]!r} for the {role}{nearest(asked[role], names)}; "
                    f"the columns are {_listed(names)}"
                )
            found[role] = asked[role]
            continue
        fitting = usual(role, [name for name in names if name not in asked.values()])
        if len(fitting) > 1:
            raise DataError(f"{place}: columns {_listed(fitting, ' and ')} could both be the {role}; map one of them")
        if fitting:
            found[role] = fitting[0]
        elif role in _REQUIRED:
            raise DataError(_missing(role, names, place))
    repeated = next((name for name in found.values() if list(found.values()).count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"column {repeated!r} is mapped to more than one of {', '.join(ALIASES)}")
    return found


def named(column: str, names: Sequence[str]) -> str:
    """The column's name: itself, or the name of the column with this number from 1."""
    if column in names or not (column.isascii() and column.isdigit() and 0 < int(column) <= len(names)):
        return column
    return names[int(column) - 1]


def usual(role: str, names: Sequence[str]) -> list[str]:
    """The columns that bear the most usual of a role's names among those that occur, in any case."""
    fitting = ([name for name in names if plain(name) in aliases] for aliases in ALIASES[role])
    return next((found for found in fitting if found), [])


def require(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raise DataError for the first of the `wanted` columns that the file lacks."""
    for name in wanted:
        if name not in names:
            raise DataError(
                f"{path}, line 1: no column {name!r}{nearest(name, names)}; the columns are {_listed(names)}"
            )


def nearest(name: str, names: Sequence[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `names`, or an empty string if none is near."""
    by_plain = {plain(other): other for other in names}
    # A shortened name ("tmdb" for "tmdbId") is nearer than a name with another letter ("imdbId").
    shortened = [other for other in by_plain if len(other) >= _SHORTEST and plain(name).startswith(other)]
    near = shortened or difflib.get_close_matches(plain(name), list(by_plain), n=1)
    return f" (did you mean {by_plain[near[0]]!r}?)" if near else ""


def _roles(mapping: Mapping[str, str]) -> dict[str, str]:
    roles = {"time" if role == "timestamp" else role: column for role, column in mapping.items()}
    for role in roles:
        if role not in ALIASES:
            raise DataError(
                f"columns: unknown role {role!r}{nearest(role, list(ALIASES))}; roles: {', '.join(ALIASES)}"
            )
    return roles


def plain(name: str) -> str:
    """The name in small letters, without spaces and signs between words."""
    return re.sub(r"[\s_./-]", "", name.casefold())


def _listed(names: Sequence[str], between: str = ", ") -> str:
    printable = ("".join(each if each.isprintable() else "?" for each in name) for name in names[:_MOST])
    shown = [name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..." for name in printable]
    return between.join(shown) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def _missing(role: str, names: Sequence[str], place: str) -> str:
    aliases = ALIASES[role][0]
    hints = [hint for alias in aliases if (hint := nearest(alias, names))]
    data = bool(names) and all(name.lstrip("-").replace(".", "", 1).isdigit() for name in names)
    start = "the first line holds numbers, expected column names, or --header no: " if data else ""
    if len(names) >= _WIDE and not hints:
        start = (
            f"{len(names)} columns look like a matrix, a row for each user and a column for each item: make a row of "
            "each rating first, with unpivot in polars or melt in pandas: "
        )
    return (
        f"{place}: {start}no column for the {role}{hints[0] if hints else ''}; found {_listed(names) or 'none'}; "
        f"expected {' or '.join(aliases)}, or a column mapped to it: --column {role}=NAME"
        f"{IMPLICIT if role == 'rating' else ''}"
    )
