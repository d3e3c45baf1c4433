"""Match films of two catalogues by normalised title and year."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

_ARTICLES = (
    "the|a|an|la|le|les|l'|il|lo|gli|i|der|die|das|el|los|las|un|une|uno|una|ein|eine|de|het|den|det|en|ett|o|os|as"
)
_TRAILING_BRACKETS = r"(?:\s*\((?:[^()]|\([^()]*\))*\))+\s*$"
_BRACKETED = r"\(((?:[^()]|\([^()]*\))*)\)"
STEPS = ("title and year", "articles moved", "other titles", "accents and punctuation", "leading article", "year ±1")


@dataclass(frozen=True)
class TitleMatch:
    """The row of each film's match in another catalogue.

    row: int64, null if there is none.
    step: the number of the step (in STEPS) that matched each film, or null.
    ambiguous: number of films with several matches at their step.
    """

    row: pl.Series
    step: pl.Series
    ambiguous: int


def match_titles(films: pl.DataFrame, others: pl.DataFrame) -> TitleMatch:
    """Match films to others by title and year, in steps from strict to loose; the first step that matches wins.

    Each step includes the ones before it:

    1. equal title and year;
    2. "Matrix, The" reads "The Matrix";
    3. the title without its brackets, and the titles in them, as in "City of Lost Children, The (Cité des enfants
       perdus, La)" or "Seven (a.k.a. Se7en)";
    4. accents, case, punctuation and "&" against "and" are ignored;
    5. a leading article is ignored;
    6. the year may differ by one.

    Among several matches at one step, these win in turn: the film's earlier title, the nearer year, the most votes, the
    first in the table.

    films: columns `title`, `year`.
    others: columns `title`, `year` and `vote_count`.
    """
    left = _variants(films)
    right = others.select(
        pl.int_range(pl.len()).alias("other"),
        pl.col("title"),
        pl.col("year").cast(pl.Int32),
        votes=pl.col("vote_count").fill_null(-1.0),
        gap=pl.lit(0, pl.Int32),
    ).drop_nulls(["title", "year"])
    right_moved = right.with_columns(title=_move_article(pl.col("title")))
    right_folded = right_moved.with_columns(title=_fold(pl.col("title")))
    right_bare = right_folded.with_columns(title=_drop_article(pl.col("title")))
    right_near = pl.concat(
        right_bare.with_columns(pl.col("year") + gap, gap=pl.lit(abs(gap), pl.Int32)) for gap in (-1, 0, 1)
    )
    whole = pl.col("rank") == 0
    moved = left.with_columns(title=_move_article(pl.col("title")))
    folded = moved.with_columns(title=_fold(pl.col("title")))
    bare = folded.with_columns(title=_drop_article(pl.col("title")))
    plan = (
        (left.filter(whole), right),
        (moved.filter(whole), right_moved),
        (moved, right_moved),
        (folded, right_folded),
        (bare, right_bare),
        (bare, right_near),
    )
    found: list[pl.DataFrame] = []
    ambiguous = 0
    done = pl.DataFrame(schema={"film": pl.Int64})
    for step, (ours, theirs) in enumerate(plan):
        rest = ours.filter(pl.col("title") != "").join(done, on="film", how="anti")
        pairs = rest.join(theirs, on=["title", "year"]).sort(
            ["film", "rank", "gap", "votes", "other"], descending=[False, False, False, True, False]
        )
        best = pairs.unique("film", keep="first", maintain_order=True)
        ties = pairs.join(best.select("film", "rank", "gap"), on=["film", "rank", "gap"])
        ambiguous += int(ties.group_by("film").agg(pl.col("other").n_unique() > 1)["other"].sum())
        found.append(best.select("film", "other", step=pl.lit(step, pl.Int32)))
        done = pl.concat([done, best.select("film")])
    index = pl.DataFrame({"film": pl.int_range(films.height, eager=True)})
    matches = index.join(pl.concat(found), on="film", how="left", maintain_order="left")
    return TitleMatch(matches["other"], matches["step"], ambiguous)


def split_year(titles: pl.Series) -> pl.DataFrame:
    """Titles such as "Heat (1995)" as columns `title` ("Heat") and `year` (int32; null if there is none)."""
    year = titles.str.extract(r"\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$").cast(pl.Int32, strict=False)
    bare = titles.str.replace(r"\s*\(\d{4}(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$", "").str.strip_chars()
    return pl.DataFrame({"title": bare, "year": year})


def _variants(films: pl.DataFrame) -> pl.DataFrame:
    """One row per title of a film: rank 0 for the whole title, 1 without brackets, from 2 for those in brackets."""
    base = films.select(pl.int_range(pl.len()).alias("film"), "title", pl.col("year").cast(pl.Int32))
    base = base.drop_nulls()
    bracketed = base.filter(pl.col("title").str.contains("(", literal=True))
    inner = (
        bracketed.with_columns(title=pl.col("title").str.extract_all(_BRACKETED))
        .explode("title")
        .drop_nulls()
        .with_columns(title=pl.col("title").str.slice(1).str.head(-1).str.replace(r"(?i)^a\.?k\.?a\.?:?\s+", ""))
        .with_columns(rank=(pl.int_range(pl.len()).over("film") + 2).cast(pl.Int32))
    )
    outer = bracketed.with_columns(pl.col("title").str.replace(_TRAILING_BRACKETS, ""), rank=pl.lit(1, pl.Int32))
    return pl.concat([base.with_columns(rank=pl.lit(0, pl.Int32)), outer, inner])


def _move_article(title: pl.Expr) -> pl.Expr:
    moved = title.str.strip_chars().str.replace(rf"(?i)^(.*), ({_ARTICLES})$", "${2} ${1}")
    return moved.str.replace(r"(?i)^l' ", "L'")


def _fold(title: pl.Expr) -> pl.Expr:
    plain = title.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase()
    words = plain.str.replace_all("&", " and ", literal=True).str.replace_all(r"['’`]", "")
    return words.str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()


def _drop_article(folded: pl.Expr) -> pl.Expr:
    return folded.str.replace(rf"^(?:{_ARTICLES}) (.+)$", "${1}")
