"""Titles that name the same film match, at the step that says why; others don't."""

import polars as pl
import pytest

from hierfed.data.reading.titles import STEPS, match_titles, split_year

CASES = [
    (("Heat", 1995), ("Heat", 1995), "title and year"),
    (("Matrix, The", 1999), ("The Matrix", 1999), "articles moved"),
    (("Kandidat, Der", 1980), ("Der Kandidat", 1980), "articles moved"),
    (("Avventura, L'", 1960), ("L'Avventura", 1960), "articles moved"),
    (("Seven (a.k.a. Se7en)", 1995), ("Se7en", 1995), "other titles"),
    (
        ("Amelie (Fabuleux destin d'Amélie Poulain, Le)", 2001),
        ("Le Fabuleux destin d'Amélie Poulain", 2001),
        "other titles",
    ),
    (
        ("Supercop (Police Story 3: Supercop) (Jing cha gu shi III)", 1992),
        ("Jing cha gu shi III", 1992),
        "other titles",
    ),
    (("Wave, The (Welle, Die)", 2008), ("Wave, The", 2008), "other titles"),
    (("To Have, or Not (En avoir (ou pas))", 1995), ("En avoir (ou pas)", 1995), "other titles"),
    (("Léon", 1994), ("Leon", 1994), "accents and punctuation"),
    (("WALL·E", 2008), ("Wall-E", 2008), "accents and punctuation"),
    (("Lilo & Stitch", 2002), ("Lilo and Stitch", 2002), "accents and punctuation"),
    (("Schindler's List", 1993), ("Schindlers List", 1993), "accents and punctuation"),
    (("Star Wars", 1977), ("The star wars", 1977), "leading article"),
    (("Heat", 1995), ("Heat", 1996), "year ±1"),
    (("Heat", 1995), ("Heat", 1994), "year ±1"),
    (("Heat", 1995), ("Heat", 1997), None),
    (("Heat", 1995), ("Heat 2", 1995), None),
    (("A", 1998), ("The", 1998), None),
    (("!", 1998), ("?", 1998), None),
    (("Heat", None), ("Heat", 1995), None),
    ((None, 1995), ("Heat", 1995), None),
]


def table(rows, votes=None) -> pl.DataFrame:
    schema = {"title": pl.String, "year": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        vote_count=pl.Series(votes or [1.0] * len(rows), dtype=pl.Float64)
    )


@pytest.mark.parametrize("ours, theirs, step", CASES)
def test_a_pair(ours, theirs, step):
    match = match_titles(table([ours]), table([("Other", 1995), theirs]))
    assert match.row.to_list() == [None if step is None else 1]
    assert [None if s is None else STEPS[s] for s in match.step] == [step]


def test_the_strictest_step_wins_whatever_the_votes():
    match = match_titles(
        table([("Hamlet", 1996)]), table([("HAMLET", 1996), ("Hamlet", 1995), ("Hamlet", 1996)], [9, 9, 1])
    )
    assert match.row.to_list() == [2]
    assert match.ambiguous == 0


def test_the_earlier_title_wins_within_a_step():
    ours = table([("First, The (Second) (Third)", 2000)])
    assert match_titles(ours, table([("Third", 2000), ("Second", 2000), ("The First", 2000)])).row.to_list() == [2]


@pytest.mark.parametrize("votes, row", [([1, 5, 3], 1), ([5, 1, 5], 0), ([None, None, 1], 2)])
def test_of_several_the_one_with_most_votes_then_the_first_wins(votes, row):
    match = match_titles(table([("Heat", 1995)]), table([("Heat", 1995)] * 3, votes))
    assert match.row.to_list() == [row]
    assert match.ambiguous == 1


def test_two_films_may_share_a_match_and_order_is_kept():
    match = match_titles(table([("B", 2000), ("A", 2000), ("B", 2001)]), table([("A", 2000), ("B", 2000)]))
    assert match.row.to_list() == [1, 0, 1]


@pytest.mark.parametrize(
    "text, title, year",
    [
        ("Heat (1995)", "Heat", 1995),
        ("Heat (1995) ", "Heat", 1995),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", 2009),
        ("Das Boot (Boot, Das) (1981)", "Das Boot (Boot, Das)", 1981),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Black Mirror (2011–)", "Black Mirror", 2011),
        ("Untitled", "Untitled", None),
        (None, None, None),
    ],
)
def test_split_year(text, title, year):
    assert split_year(pl.Series([text], dtype=pl.String)).row(0) == (title, year)
