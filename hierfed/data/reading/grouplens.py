"""Folders laid out as GroupLens publishes them: ml-latest(-small), 20m, 25m, 32m (CSV), ml-100k, ml-1m and ml-10m.

Others use these layouts too, and their ratings, titles and genres are read all the same. But only folders with a mark
of MovieLens (see editions) get its rating scale, whole numbers for ids, licence and citation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from hierfed.data.ids import compact, places
from hierfed.data.ratings import SourceFile
from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules, parse_ids, refuse
from hierfed.data.reading.columns import nearest, require
from hierfed.data.reading.delimited import Delimited, delimited, open_delimited, read_text
from hierfed.data.reading.editions import CSV_COLUMNS, dat_edition, is_100k
from hierfed.data.reading.licences import folder_terms, grouplens_terms
from hierfed.data.reading.numbering import join_numbered
from hierfed.data.reading.rating_files import RatingFile, read_delimited
from hierfed.data.reading.tables import read_file
from hierfed.data.reading.titles import split_year
from hierfed.data.settings import TableSettings
from hierfed.errors import DataError

_GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
_ITEM_COLUMNS_100K = ("movieId", "title", "release date", "video release date", "IMDb URL", *_GENRES_100K)
# MovieLens began in 1995. Earlier ratings come from another source.
_FIRST_TIME = 788_918_400
_PUBLISHED_RATINGS = {
    "821795331fd974bbe7a8416f2a7eec2b548a485dedb47a073580b0a9a8a0a8d2": "ml-latest-small of October 2016",
}


def read_links(path: Path) -> tuple[pl.DataFrame, SourceFile]:
    """links.csv as `item_id` (movieId) and `metadata_id` (tmdbId, null if TMDB has no such film)."""
    table = open_delimited(path)
    require(table.names, ("movieId", "tmdbId"), path)
    raw = table.strings()
    items = _film_ids(raw["movieId"], table)
    films = raw["tmdbId"].str.strip_chars()
    wrong = ~films.str.contains(r"^[0-9]+$").fill_null(True)
    refuse(raw["tmdbId"], wrong, "tmdbId", "a whole number", lambda row: _line(table, row))
    links = pl.DataFrame({"item_id": items, "metadata_id": compact(films)})
    return links, table.source_file(len(links))


def read_csv(folder: Path, table: Delimited, edition: str, how: TableSettings, test: str | None) -> Source:
    """Read a CSV edition: ml-latest, 20m, 25m, 32m.

    table: its ratings.csv.
    test: the path of a table with test ratings.
    """
    rules = _rules(edition, 0.5, how)
    train = read_delimited(table, rules)
    held = None if test is None else read_file(Path(test), rules)
    films, files = _optional_films(folder / "movies.csv", _films_csv)
    return source_of(folder, edition, train, held, films, files)


def read_100k(folder: Path, how: TableSettings, test: str | None) -> Source:
    """Read a folder laid out as ml-100k.

    test: the name of one of its splits.
    """
    _refuse_form(how, "u.data")
    edition = "ml-100k" if is_100k(folder) else None
    splits = sorted(path.stem for path in folder.glob("u*.base"))
    train_name, test_path = _split(folder, test, splits, "u.data", ".base")
    train, held = _read_both(folder / train_name, test_path, "\t", _rules(edition, 1.0, how))
    films, files = _optional_films(folder / "u.item", _films_100k)
    return source_of(folder, edition, train, held, films, files)


def read_dat(folder: Path, how: TableSettings, test: str | None) -> Source:
    """Read a folder laid out as ml-1m or ml-10m.

    test: the name of one of its splits.
    """
    _refuse_form(how, "ratings.dat")
    edition = dat_edition(folder)
    splits = sorted(path.stem for path in folder.glob("r*.train"))
    train_name, test_path = _split(folder, test, splits, "ratings.dat", ".train")
    rules = _rules(edition, 1.0 if edition == "ml-1m" else 0.5, how)
    train, held = _read_both(folder / train_name, test_path, "::", rules)
    films, files = _optional_films(folder / "movies.dat", _films_dat)
    return source_of(folder, edition, train, held, films, files)


def _rules(edition: str | None, lowest: float, how: TableSettings) -> Rules:
    """MovieLens' own rules; other sources may have any scale."""
    return Rules(how=how) if edition is None else Rules(lowest, 5.0, how)


def _split(folder: Path, test: str | None, splits: list[str], whole: str, ending: str) -> tuple[str, Path | None]:
    """The name of the train file and the path of the test file for a published split, or `whole` and None."""
    if test is None:
        return whole, None
    if test not in splits:
        there = f"its splits are {', '.join(splits)}" if splits else f"it has no files *{ending} with *.test"
        raise DataError(f"{folder}: no test split {test!r}{nearest(test, splits)}; {there}")
    return f"{test}{ending}", folder / f"{test}.test"


def _refuse_form(how: TableSettings, name: str) -> None:
    if how.columns:
        raise DataError(f"columns can't be mapped for {name}: it has no header, its columns are fixed")


def _read_both(train: Path, test: Path | None, separator: str, rules: Rules) -> tuple[RatingFile, RatingFile | None]:
    """The ratings of a headerless train file, and of its test file if there is one."""

    def read(path: Path) -> RatingFile:
        text = read_text(path, rules.how.encoding or "utf-8")
        return read_delimited(
            delimited(text, separator=separator, names=CSV_COLUMNS, quoted=False, skip=rules.skip), rules
        )

    return read(train), None if test is None else read(test)


def source_of(
    folder: Path,
    edition: str | None,
    train: RatingFile,
    held: RatingFile | None,
    films: pl.DataFrame | None,
    film_files: tuple[SourceFile, ...],
    notes: Sequence[str] = (),
) -> Source:
    """The ratings and films of a folder, with MovieLens' terms if it is one of its editions.

    edition: None if it is not one of MovieLens'.
    """
    ratings = [train] if held is None else [train, held]
    notes = list(notes)
    for rated in ratings:
        if rated.file.sha256 in _PUBLISHED_RATINGS:
            published = _PUBLISHED_RATINGS[rated.file.sha256]
            notes.append(f"{rated.file.name} is, byte for byte, the file published as {published}")
        early = 0 if rated.part.time is None or edition is None else int((rated.part.time < _FIRST_TIME).sum())
        if early:
            notes.append(f"{rated.file.name}: {early} ratings are from before MovieLens began (1995): an altered copy?")
    if edition is None:
        notes.append("no mark of a published MovieLens edition: tables of unknown origin, on the scale that occurs")
    if films is not None:
        rated_items = join_numbered([rated.part.item for rated in ratings]).ids
        unknown = places(rated_items, films["item_id"]).null_count()
        if unknown:
            rated_what = "items" if edition is None else "films"
            notes.append(f"{unknown} rated {rated_what} are not in {film_files[0].name}: no title, year or genres")
    return Source(
        terms=folder_terms(folder.resolve().name) if edition is None else grouplens_terms(edition),
        files=tuple(rated.file for rated in ratings) + film_files,
        train=train.part,
        test=None if held is None else held.part,
        films=films,
        notes=tuple(notes),
    )


def _optional_films(
    path: Path, read: Callable[[Path], tuple[pl.DataFrame, Delimited]]
) -> tuple[pl.DataFrame | None, tuple[SourceFile, ...]]:
    if not path.is_file():
        return None, ()
    films, table = read(path)
    return films, (table.source_file(films.height),)


def _films_csv(path: Path) -> tuple[pl.DataFrame, Delimited]:
    table = open_delimited(path)
    require(table.names, ("movieId", "title", "genres"), path)
    raw = table.strings()
    return films_of(raw, split_genres(raw["genres"]), table), table


def _films_dat(path: Path) -> tuple[pl.DataFrame, Delimited]:
    # ml-1m is in latin-1; ml-10m, which has tags.dat, in UTF-8.
    encoding = "utf-8" if (path.parent / "tags.dat").is_file() else None
    names = ("movieId", "title", "genres")
    table = open_delimited(path, separator="::", names=names, encoding=encoding, quoted=False)
    raw = table.strings()
    return films_of(raw, split_genres(raw["genres"]), table), table


def _films_100k(path: Path) -> tuple[pl.DataFrame, Delimited]:
    table = open_delimited(path, separator="|", names=_ITEM_COLUMNS_100K, encoding=None, quoted=False)
    raw = table.strings()
    for name in _GENRES_100K:
        wrong = ~raw[name].is_in(["0", "1"]).fill_null(False)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(f"{_line(table, row)}, column {name}: found {raw[name][row]!r}, expected 0 or 1")
    flags = raw.select(_GENRES_100K).to_numpy() == "1"
    genres = [[name for name, flag in zip(_GENRES_100K[1:], row[1:], strict=True) if flag] for row in flags]
    return films_of(raw, pl.Series(genres, dtype=pl.List(pl.String)), table), table


def films_of(raw: pl.DataFrame, genres: pl.Series, table: Delimited, name: str = "movieId") -> pl.DataFrame:
    """`item_id`, `title`, `year` and `genres` of a film file's rows.

    name: the file's own name of the column of ids.
    """
    ids = _film_ids(raw["movieId"], table, name)
    return split_year(raw["title"]).select(item_id=ids, title="title", year="year", genres=genres)


def split_genres(raw: pl.Series) -> pl.Series:
    """`A|B` as a list; `(no genres listed)` and an empty field as an empty list."""
    text = raw.fill_null("(no genres listed)")
    return text.str.split("|").list.eval(pl.element().filter(pl.element() != "(no genres listed)"))


def _film_ids(raw: pl.Series, table: Delimited, name: str = "movieId") -> pl.Series:
    """Film ids. Raises DataError if one occurs twice."""
    ids = parse_ids(raw, name, lambda row: _line(table, row))
    repeated = ~ids.is_first_distinct()
    if repeated.any():
        row = int(repeated.arg_true()[0])
        first = _line(table, int((ids == ids[row]).arg_true()[0]))
        raise DataError(f"{_line(table, row)}, column {name}: film {ids[row]} stands twice, first in {first}")
    return ids


def _line(table: Delimited, row: int) -> str:
    return f"{table.path}, line {table.line(row)}"
