"""The entry point to every source of ratings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hierfed.data.ratings import Dataset
from hierfed.data.reading.assembly import Source, Unmatched, assemble
from hierfed.data.reading.columns import nearest
from hierfed.data.reading.databases import SQLITE_ENDINGS, is_database
from hierfed.data.reading.download import Progress, fetch_movielens_small
from hierfed.data.reading.embedded import read_embedded
from hierfed.data.reading.folders import files_in, find_ratings, subfolders
from hierfed.data.reading.grouplens import read_links
from hierfed.data.reading.joins import Join, choose_join, links_join, no_join, paper_join, title_join
from hierfed.data.reading.metadata import FILE_NAME, read_metadata
from hierfed.data.reading.raw_tables import IN_MEMORY, is_table
from hierfed.data.reading.tables import read_tables
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

NAMED_SOURCES = ("embedded", "movielens-small")
_ADDRESS = re.compile("://|@|password", re.IGNORECASE)


def load(
    source: Any,
    *,
    join: Sequence[str] = (),
    unmatched: Unmatched | None = None,
    how: TableSettings = TableSettings(),  # noqa: B008 - it is frozen
    test: str | None = None,
    query: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Ratings, catalogue and provenance from a source.

    source: `embedded`, `movielens-small`, the path of a GroupLens folder, of a folder with `ratings.parquet` and
    `items.parquet` or of a table (CSV, TSV, JSON lines, Parquet, XLSX, SQLite), `postgresql://user@host/database`, or a
    DataFrame of polars or pandas, or an Arrow table.
    join: `links`, `paper`, `title` or `none`, in order of preference. The first that the source allows is used; if
    empty, the source's best.
    unmatched: `keep` or `drop` ratings of films without metadata; None drops them with the joins `links` and `paper`.
    how: the form of the tables, and what becomes of rows that are no ratings.
    test: a second table with test ratings, or the name of a published split such as `u1`.
    query: a SELECT that gives user, item, rating and perhaps time, for a database only.
    progress: called while downloading.
    Raises DataError, in one line, for anything in the data that cannot be used as it is.
    """
    if unmatched not in (None, "keep", "drop"):
        raise DataError(f"unmatched is {unmatched!r}, expected 'keep' or 'drop'")
    if is_table(source):
        return assemble(
            read_tables(source, how, test, query), choose_join(join, _by_name(no_join()), IN_MEMORY), unmatched
        )
    source = str(source)
    _check_name(source)
    database = is_database(source)
    _check_query(source, query)
    path = Path(source)
    if source == "embedded":
        _refuse(how, test, source)
        found, imdb = read_embedded()
        joins = _by_name(title_join(imdb), no_join())
    elif source == "movielens-small":
        return load(str(fetch_movielens_small(progress=progress)), join=join, unmatched=unmatched, how=how, test=test)
    elif path.is_dir():
        place, read = find_ratings(path)
        joins = _folder_joins(path, place)
        # An impossible join is refused before the ratings, which may be many, are read.
        choose_join(join, joins, source)
        found = read(how, test)
    elif database or path.is_file():
        found, joins = read_tables(source, how, test, query), _by_name(no_join())
    else:
        raise DataError(
            f"no such data: {_shown(source)}{nearest(source, NAMED_SOURCES)}; no file or folder of this name is here, "
            f"and possible are {', '.join(NAMED_SOURCES)}, "
            f"a folder with MovieLens files, a table (CSV, TSV, JSON lines, Parquet, XLSX, SQLite), or postgresql://..."
        )
    return assemble(found, choose_join(join, joins, source), unmatched)


def read_ratings(
    source: str,
    *,
    how: TableSettings = TableSettings(),  # noqa: B008 - it is frozen
    test: str | None = None,
    query: str = "",
) -> Source:
    """The ratings of a folder, a table or a database, without a catalogue; see load."""
    _check_name(source)
    path, database = Path(source), is_database(source)
    _check_query(source, query)
    if path.is_dir():
        return find_ratings(path)[1](how, test)
    if database or path.is_file():
        return read_tables(source, how, test, query)
    raise DataError(
        f"no such data: {_shown(source)}; no file or folder of this name is here, and possible are a folder with "
        "MovieLens files, a table (CSV, TSV, JSON lines, Parquet, XLSX, SQLite), or postgresql://..."
    )


def _check_name(source: str) -> None:
    """Refuse an empty name, such as that of a shell's variable that is not set: it would mean the folder at hand."""
    if not source:
        raise DataError("no such data: the name is empty; for the folder at hand say '.'")


def files_of(source: str, test: str | None = None) -> dict[str, Path]:
    """Every file that `load` may read, by a name that reveals no more of its place than its folder.

    Empty for small sources and for databases, whose files do not reveal their content. Raises DataError as `load` does.
    """
    path = Path(source)
    if source in NAMED_SOURCES or is_database(source) or (test is not None and is_database(test)):
        return {}
    found = {f"test {Path(test).name}": Path(test)} if test is not None and Path(test).is_file() else {}
    if path.is_file():
        return {f"table {path.name}": path, **found}
    if not path.is_dir():
        return {}
    place, files = files_in(path)
    companions = (_find(name, path, place) for name in (FILE_NAME, "links.csv"))
    found |= {f"{place.name}/{file.name}": file for file in files}
    return found | {f"beside {file.name}": file for file in companions if file is not None}


def _folder_joins(folder: Path, place: Path) -> dict[str, Join]:
    """The joins that the files of a folder allow, the best first."""
    metadata_path, links_path = (_find(name, folder, place) for name in (FILE_NAME, "links.csv"))
    if metadata_path is None:
        return _by_name(no_join())
    metadata = read_metadata(metadata_path)
    joins = [paper_join(metadata), title_join(metadata), no_join()]
    if links_path is not None:
        joins.insert(0, links_join(*read_links(links_path), metadata))
    return _by_name(*joins)


def _shown(source: str) -> str:
    """The source for messages. An address that may hold a password is not repeated."""
    return "an address of another kind" if _ADDRESS.search(source) else repr(source)


def _by_name(*joins: Join) -> dict[str, Join]:
    return {join.name: join for join in joins}


def _find(name: str, folder: Path, place: Path) -> Path | None:
    """A file beside the ratings, else in the folder, else in the only one of its subfolders that has it."""
    for near in (place / name, folder / name):
        if near.is_file():
            return near
    below = [path / name for path in subfolders(folder) if (path / name).is_file()]
    if len(below) > 1:
        raise DataError(f"{folder}: {name} stands in {' and in '.join(path.parent.name for path in below)}; keep one")
    return below[0] if below else None


def _check_query(source: str, query: str) -> None:
    if not query or is_database(source):
        return
    if Path(source).suffix.lower() in SQLITE_ENDINGS and not Path(source).exists():
        raise DataError(f"{source}: file not found")
    raise DataError(f"a query needs a database (SQLite or PostgreSQL), and {_shown(source)} is none")


def _refuse(how: TableSettings, test: str | None, source: str) -> None:
    if how.columns:
        raise DataError(f"columns can't be mapped for {source}: its columns are fixed")
    if test is not None:
        raise DataError(f"{source} has no test set of its own, and takes none")
