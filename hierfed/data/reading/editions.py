"""The marks of MovieLens' editions. A folder without any of them is of unknown origin."""

from __future__ import annotations

import re
from pathlib import Path

from hierfed.data.reading.delimited import Delimited
from hierfed.data.reading.files import read_bytes

READMES = ("README.txt", "README", "README.html")
# GroupLens' licence, which is in the README of every edition, has both.
_LICENCE = ("MovieLens", "University of Minnesota")
_README_BYTES = 20_000
# Editions by number of ratings, which identifies a published file of that layout.
_CSV_EDITIONS = {
    100_004: "ml-latest-small",
    100_836: "ml-latest-small",
    20_000_263: "ml-20m",
    25_000_095: "ml-25m",
    32_000_204: "ml-32m",
}
_DAT_EDITIONS = {1_000_209: "ml-1m", 10_000_054: "ml-10m"}
_RATINGS_100K, _FILMS_100K = 100_000, 1_682
CSV_COLUMNS = ("userId", "movieId", "rating", "timestamp")


def csv_edition(folder: Path, table: Delimited) -> str | None:
    """The edition of a folder with this ratings.csv; None if its header or all its marks are another's."""
    if table.names != CSV_COLUMNS:
        return None
    readme = _readme(folder)
    if readme is not None:
        found = re.search(r"\((ml-[\w-]+)\)", readme) or re.fullmatch(r"(ml-[\w-]+)", folder.name)
        return found.group(1) if found else "(edition not known)"
    return _CSV_EDITIONS.get(_lines(table.data) - 1)


def dat_edition(folder: Path) -> str | None:
    """The edition of a folder with ratings.dat: `ml-1m`, which has users.dat, or `ml-10m`; None if it is another's."""
    if _readme(folder) is not None:
        return "ml-1m" if (folder / "users.dat").is_file() else "ml-10m"
    return _DAT_EDITIONS.get(_lines_of(folder / "ratings.dat"))


def is_100k(folder: Path) -> bool:
    """True if a folder with u.data, or its splits, is ml-100k."""
    if _readme(folder) is not None:
        return True
    return (_lines_of(folder / "u.data"), _lines_of(folder / "u.item")) == (_RATINGS_100K, _FILMS_100K)


def _readme(folder: Path) -> str | None:
    """The text of GroupLens' own README; None if there is none."""
    for name in READMES:
        if (folder / name).is_file():
            text = read_bytes(folder / name)[:_README_BYTES].decode("latin-1")
            if all(word in text for word in _LICENCE):
                return text
    return None


def _lines_of(path: Path) -> int:
    return _lines(read_bytes(path)) if path.is_file() else 0


def _lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))
