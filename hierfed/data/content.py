"""Public features of the items, as numbers for the hierarchical and the local model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from hierfed.data.catalogue import Catalogue

NEUTRAL_VOTE = 6.4
NEUTRAL_VOTES = 20
MOST_VOTES = 2000
SHORTEST, LONGEST, USUAL_LENGTH = 50.0, 220.0, 105.0
YEAR_CENTRES = (1940, 1960, 1975, 1990, 2000, 2010, 2018)
YEAR_WIDTH = 10.0
SHORTEST_GROUP, LONGEST_GROUP = 4, 6
# TMDB's and IMDb's names of genres, and MovieLens' names of the same.
SAME_GENRE = {"Science Fiction": "Sci-Fi", "Family": "Children"}
EXTRA_GENRES = ("Family", "History", "Music")


@dataclass(frozen=True)
class Content:
    """Public features of all items, float64. Weights are public vote counts, so no rating is in them.

    scalars [items, n]: vote average, log votes, log popularity, year, its square, runtime, log revenue and products,
    standardised. Scalars without data are left out; without metadata there are none.
    genres [items, n]: centred flags, the mean of the source's and the metadata's.
    unit_genres [items, n]: the source's own flags, each item's of norm 1.
    year_bumps [items, 7]: bell curves over release years.
    vote, votes, year [items]: the standardised scalars that the kernel uses, 0 if unknown.
    vote_average [items]: smoothed, in its own unit (1 to 10).
    titles: TF-IDF of the titles' letter groups, or None without titles.
    names: of the scalars.
    """

    scalars: np.ndarray
    names: tuple[str, ...]
    genres: np.ndarray
    unit_genres: np.ndarray
    year_bumps: np.ndarray
    vote: np.ndarray
    votes: np.ndarray
    year: np.ndarray
    vote_average: np.ndarray
    lower_titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.vote)

    @property
    def titled(self) -> bool:
        """True if any item has a title."""
        return any(re.search(r"\w", title) for title in self.lower_titles)

    @cached_property
    def titles(self) -> csr_matrix | None:
        """TF-IDF of groups of 4 to 6 letters of each title, rows of norm 1 or 0; None if no item has a title."""
        return letter_groups(self.lower_titles) if self.titled else None


@lru_cache(maxsize=2)
def letter_groups(titles: tuple[str, ...]) -> csr_matrix:
    """TF-IDF of the groups of 4 to 6 letters in each title's words, rows of norm 1 or 0, [titles, groups in order].

    A word has a space on each side, and a shorter one is one group. Counts c weigh 1 + log c, groups of d titles
    1 + log((1 + titles) / (1 + d)). These are scikit-learn's numbers, for which its import alone takes longer. The
    result is kept, since a run builds its method anew as its settings are chosen.
    """
    words = [title.lower().split() for title in titles]
    every = {word: place for place, word in enumerate(dict.fromkeys(chain.from_iterable(words)))}
    number, ends, groups = _groups(tuple(every))
    occurring = np.fromiter((every[word] for each in words for word in each), np.int64)
    title = np.repeat(np.arange(len(titles)), [len(each) for each in words])
    lengths = np.diff(ends)[occurring]
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns = number[np.repeat(ends[occurring], lengths) + inside]
    rows = np.repeat(title, lengths)
    counts = csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(len(titles), groups))
    in_titles = np.bincount(counts.indices, minlength=groups)
    rarity = 1 + np.log((1 + len(titles)) / (1 + in_titles))
    weights = (1 + np.log(counts.data)) * rarity[counts.indices]
    row = np.repeat(np.arange(len(titles)), np.diff(counts.indptr))
    counts.data = weights / np.sqrt(np.bincount(row, weights**2, len(titles)))[row]
    return counts


def _groups(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """The numbers of the words' groups, word after word; where each word's begin and end; and the number of groups.

    Groups are numbered in the order of sorted text. Six letters are two numbers of three letters, 21 bits each.
    """
    text = "".join(f" {word} " for word in words) + "\0" * LONGEST_GROUP
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64) + 1
    sizes = np.fromiter((len(word) + 2 for word in words), np.int64, len(words))
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(sizes.sum())
    starts, lengths = [], []
    for length in range(SHORTEST_GROUP, LONGEST_GROUP + 1):
        # A shorter word is one group.
        whole = (sizes.repeat(sizes) == left) & (left < length) if length == SHORTEST_GROUP else False
        found = np.flatnonzero((left >= length) | whole)
        starts.append(found)
        lengths.append(np.minimum(left[found], length))
    start, longest = np.concatenate(starts), np.concatenate(lengths)
    halves = []
    for half in (0, 1, 2), (3, 4, 5):
        parts = [np.where(place < longest, letters[start + place], 0) for place in half]
        halves.append(np.unique((parts[0] << 42) + (parts[1] << 21) + parts[2], return_inverse=True)[1])
    kinds, number = np.unique(halves[0] * (halves[1].max(initial=0) + 1) + halves[1], return_inverse=True)
    order = np.argsort(start, kind="stable")
    word = np.repeat(np.arange(len(words)), sizes)[start[order]]
    return number[order], np.searchsorted(word, np.arange(len(words) + 1)), len(kinds)


def content_of(catalogue: Catalogue, vote_average: bool = True) -> Content:
    """The public features of a catalogue.

    vote_average: False leaves it out, since it may be newer than the test rows.
    """
    frame, count = catalogue.frame, len(catalogue)
    flags, names = _flags(frame["genres"], ())
    unit = flags / np.sqrt(np.maximum(flags.sum(1, keepdims=True), 1))
    known_year = frame["year"].cast(pl.Float64).to_numpy()
    year = np.where(np.isfinite(known_year), known_year, np.nanmedian(known_year) if frame["year"].count() else 1990.0)
    bumps = np.exp(-0.5 * ((year[:, None] - np.array(YEAR_CENTRES)) / YEAR_WIDTH) ** 2)
    if not frame["year"].count():
        bumps = np.zeros((count, 0))
    lower = tuple(re.sub(r"\(\d{4}\)", "", title).lower() for title in frame["title"].fill_null("").to_list())
    if "vote_count" not in catalogue.numeric_features:
        zero = np.zeros(count)
        return Content(
            scalars=np.zeros((count, 0)),
            names=(),
            genres=unit - unit.mean(0),
            unit_genres=unit,
            year_bumps=bumps,
            vote=zero,
            votes=zero,
            year=(year - 1990) / 15,
            vote_average=np.full(count, NEUTRAL_VOTE),
            lower_titles=lower,
        )
    vote_count = _number(frame, "vote_count", 0.0)
    weights = np.minimum(vote_count + 1, MOST_VOTES)
    weights /= weights.sum()

    def standardised(values: np.ndarray) -> np.ndarray:
        centred = values - weights @ values
        scaled: np.ndarray = centred / max(float(np.sqrt(weights @ centred**2)), 1e-9)
        return scaled

    average = np.full(count, NEUTRAL_VOTE)
    if vote_average and "vote_average" in catalogue.numeric_features:
        vote = np.where(vote_count > 0, _number(frame, "vote_average", NEUTRAL_VOTE), NEUTRAL_VOTE)
        average = (vote_count * vote + NEUTRAL_VOTES * NEUTRAL_VOTE) / (vote_count + NEUTRAL_VOTES)
    runtime = _number(frame, "runtime", USUAL_LENGTH)
    runtime = np.where(runtime > 30, np.clip(runtime, SHORTEST, LONGEST), USUAL_LENGTH)
    vote, votes, when = standardised(average), standardised(np.log1p(vote_count)), standardised(year)
    scalars = {
        "vote_average": vote,
        "votes": votes,
        "popularity": standardised(np.log1p(_number(frame, "popularity", 0.0))),
        "year": when,
        "year squared": when**2 - 1,
        "runtime": standardised(runtime),
        "revenue": standardised(np.log1p(_number(frame, "revenue", 0.0) / 1e6)),
        "vote_average x votes": vote * votes,
        "vote_average x year": vote * when,
        "vote_average squared": vote**2 - 1 if vote.any() else vote,
    }
    kept = {name: values for name, values in scalars.items() if np.ptp(values) > 0}
    genres = _averaged_genres(frame, flags, names)
    return Content(
        scalars=np.column_stack([*kept.values()]) if kept else np.zeros((count, 0)),
        names=tuple(kept),
        genres=genres - weights @ genres,
        unit_genres=unit,
        year_bumps=bumps,
        vote=vote,
        votes=votes,
        year=when,
        vote_average=average,
        lower_titles=lower,
    )


def _number(frame: pl.DataFrame, name: str, unknown: float) -> np.ndarray:
    if name not in frame.columns:
        return np.full(frame.height, unknown)
    values: np.ndarray = frame[name].cast(pl.Float64).fill_null(unknown).fill_nan(unknown).to_numpy()
    return values


def _averaged_genres(frame: pl.DataFrame, flags: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The mean of the source's and the metadata's flags if an item has metadata genres, else the source's flags."""
    listed = frame["metadata_genres"]
    if not listed.drop_nulls().list.len().sum():
        return flags
    renamed = listed.list.eval(pl.element().replace(SAME_GENRE))
    theirs, _ = _flags(renamed, names)
    extra, _ = _flags(listed, EXTRA_GENRES)
    has = (listed.list.len().fill_null(0) > 0).to_numpy()[:, None]
    return np.hstack([np.where(has, (flags + theirs) / 2, flags), extra])


def _flags(lists: pl.Series, names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """0/1 columns for these names; if none are given, for all names that occur, in alphabetical order."""
    long = pl.DataFrame({"name": lists}).with_row_index("item").explode("name").drop_nulls()
    if not names:
        names = tuple(long["name"].unique().sort().to_list())
    place = {name: column for column, name in enumerate(names)}
    long = long.filter(pl.col("name").is_in(list(names)))
    flags = np.zeros((len(lists), len(names)))
    flags[long["item"].to_numpy(), [place[name] for name in long["name"]]] = 1.0
    return flags, names
