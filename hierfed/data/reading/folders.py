"""Detection of the data set in a folder: one of GroupLens', or tables of unknown origin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hierfed.data.reading.assembly import Source
from hierfed.data.reading.catalogued import read_catalogued
from hierfed.data.reading.editions import READMES
from hierfed.data.reading.grouplens import read_100k, read_dat
from hierfed.data.reading.other_folders import ITEM_TABLES, RATING_TABLES, read_csv_folder, read_txt
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError, reason_of
from hierfed.generated.files import ITEMS, RATINGS, TRUTH

Reader = Callable[[TableSettings, str | None], Source]


@dataclass(frozen=True)
class _Format:
    """The marks of a kind of folder, and its reader: (folder, how, test) to Source.

    files: patterns of all names that the reader looks for.
    """

    what: str
    signs: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[Path, TableSettings, str | None], Source]


_FORMATS = (
    _Format(
        "ratings.csv (ml-latest, 20m, 25m, 32m, or other tables, so named or as Kaggle does)",
        RATING_TABLES,
        (*RATING_TABLES, *ITEM_TABLES, *READMES),
        read_csv_folder,
    ),
    _Format(
        "u.data (ml-100k)",
        ("u.data", "u1.base", "ua.base"),
        ("u*.base", "u*.test", "u.data", "u.item", *READMES),
        read_100k,
    ),
    _Format(
        "ratings.dat (ml-1m, ml-10m)",
        ("ratings.dat",),
        ("ratings.dat", "r*.train", "r*.test", "movies.dat", "users.dat", "tags.dat", *READMES),
        read_dat,
    ),
    _Format(
        "ratings.txt (user, item, rating; no header)",
        ("ratings.txt",),
        ("ratings.txt", *ITEM_TABLES),
        read_txt,
    ),
    _Format(
        "ratings.parquet (a table, with items.parquet)",
        (RATINGS,),
        (RATINGS, ITEMS, TRUTH),
        read_catalogued,
    ),
)


def find_ratings(folder: Path) -> tuple[Path, Reader]:
    """The place of a data set, in `folder` or one level down, and its reader: (how, test) to Source.

    The folder itself comes before its subfolders. Raises DataError if none or more than one is found.
    """
    place, form = _find_format(folder)
    return place, partial(form.read, place)


def files_in(folder: Path) -> tuple[Path, list[Path]]:
    """The place of a data set as `find_ratings` finds it, and every file that its reader may read."""
    place, form = _find_format(folder)
    return place, sorted({path for pattern in form.files for path in place.glob(pattern) if path.is_file()})


def _find_format(folder: Path) -> tuple[Path, _Format]:
    for level in ([folder], subfolders(folder)):
        found = [
            (place, form) for place in level for form in _FORMATS if any((place / s).is_file() for s in form.signs)
        ]
        if len(found) > 1:
            names = ", ".join(f"{place.name}/ ({form.what})" for place, form in found)
            raise DataError(f"{folder}: holds several data sets: {names}; name the folder of one")
        if found:
            return found[0]
    looked_for = ", ".join(form.what for form in _FORMATS)
    raise DataError(f"{folder}: no ratings found there or one level down; looked for {looked_for}")


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones. Raises DataError if it may not be listed."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({reason_of(error)})") from error
