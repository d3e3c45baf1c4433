"""The settings of the data: their source and their split."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hierfed.errors import SettingsError
from hierfed.section import OpenShare, Section, Share

Join = Literal["links", "paper", "title", "none"]
Protocol = Literal["two_groups", "warm", "temporal", "loo", "cold", "given", "none"]
EMPTY = "empty"


def _listed(asked: Any) -> Any:
    return (asked,) if isinstance(asked, (str, int, float)) else asked


def _two_numbers(asked: Any) -> Any:
    numbers = isinstance(asked, (list, tuple)) and len(asked) in (0, 2)
    if not numbers or not all(type(each) in (int, float) and math.isfinite(each) for each in asked):
        raise ValueError(f"expected the lowest and the highest rating, such as 0.5,5 (found {asked!r})")
    return asked


def _separator(asked: str) -> str:
    separator = {"tab": "\t", "\\t": "\t", "space": " "}.get(asked, asked)
    if separator not in ("", "::") and (len(separator.encode()) > 1 or separator in '"\r\n\0'):
        raise ValueError(f"{asked!r} separates nothing: expected one ASCII character, 'tab', 'space' or '::'")
    return separator


def _encoding(asked: str) -> str:
    try:
        # Codecs from bytes to bytes, such as zip, are no encodings of text, and raise LookupError here.
        "".encode(asked or "utf-8")
    except LookupError as error:
        raise ValueError(
            f"Python knows no encoding {asked!r}: expected one such as latin-1, cp1252 or utf-16"
        ) from error
    return asked


class TableSettings(Section):
    """The form of a table of ratings as its owner wrote it, and what becomes of rows that are no ratings.

    columns: the name of the user's, the item's, the rating's and the time's column, or its number from 1; an empty name
    leaves the times out.
    header: `yes`, the first line names the columns; `no`, it is a row; `auto`: no for `::`, else yes.
    separator: of a text file; `tab`, `space`, `::` or a character; empty for the first line's most frequent.
    encoding: of a text file; empty for UTF-8.
    time_format: of times that are text, as `dd/mm/yyyy hh:mm` or `%d/%m/%Y`; empty for ISO 8601 and seconds.
    no_rating: ratings that say "seen and not rated", such as -1; `empty` for a field without a rating. Such rows are
    kept as seen, and are no ratings.
    repeats: what becomes of a user's ratings of one item: `error`, `first`, `last` or `mean`.
    bad_rows: `error` refuses the table; `skip` leaves such rows out, and counts them by reason.
    implicit: each row says that the user has seen the item, or bought it. No rating is read, a pair that is there
    again is there once, and the lists of the ranking models are all that is learned and judged.
    """

    columns: dict[str, str] = Field(default_factory=dict)
    header: Literal["auto", "yes", "no"] = "auto"
    separator: Annotated[str, AfterValidator(_separator)] = ""
    encoding: Annotated[str, AfterValidator(_encoding)] = ""
    time_format: str = ""
    no_rating: Annotated[tuple[float | Literal["empty"], ...], BeforeValidator(_listed)] = ()
    repeats: Literal["error", "first", "last", "mean"] = "error"
    bad_rows: Literal["error", "skip"] = "error"
    implicit: bool = False

    @model_validator(mode="after")
    def _no_codes_of_ratings_that_are_not_read(self) -> TableSettings:
        if self.implicit and (self.no_rating or "rating" in self.columns):
            raise ValueError("data.implicit: no rating is read, so leave out data.no_rating and the rating's column")
        return self

    @property
    def kept_repeats(self) -> str:
        """`repeats`, but that what was seen again was seen."""
        return "first" if self.implicit and self.repeats == "error" else self.repeats

    @property
    def strict(self) -> bool:
        """True if every row is a rating, or an error."""
        return self.bad_rows == self.repeats == "error" and not self.no_rating


class DataSettings(TableSettings):
    """The ratings, and the source of the items' features.

    source: `embedded`, `movielens-small`, a folder, a table, or a database.
    query: the SELECT that reads a database.
    join: `links`, `paper`, `title` or `none`, in order of preference; empty for the source's default.
    unmatched: `drop` or `keep` ratings of items without metadata; empty for the join's default.
    test: a named split, or a file with the test rows.
    vote_average: `use` it in the hierarchical and the local model or `leave_out`; `auto` leaves it out under protocol
    temporal, since it would be newer than the train rows.
    scale: the lowest and the highest possible rating; empty for those that occur.

    And the form of the tables: see TableSettings.
    """

    source: str = "embedded"
    query: str = ""
    join: Annotated[tuple[Join, ...], BeforeValidator(_listed)] = ()
    unmatched: Literal["", "drop", "keep"] = ""
    test: str = ""
    vote_average: Literal["auto", "use", "leave_out"] = "auto"
    scale: Annotated[tuple[()] | tuple[float, float], BeforeValidator(_two_numbers)] = ()

    @model_validator(mode="after")
    def _scale_ascends(self) -> DataSettings:
        if self.scale and self.implicit:
            raise ValueError("data.scale: with data.implicit there is no rating, so leave it out")
        if self.scale and self.scale[0] >= self.scale[1]:
            raise ValueError(f"data.scale: from {self.scale[0]:g} to {self.scale[1]:g}; expected the lower one first")
        return self

    def limits(self, occurring: tuple[float, float]) -> tuple[float, float]:
        """The lowest and the highest possible rating. Raises SettingsError if a rating outside them occurs."""
        if not self.scale:
            return occurring
        if occurring[0] < self.scale[0] or occurring[1] > self.scale[1]:
            raise SettingsError(
                f"data.scale: is from {self.scale[0]:g} to {self.scale[1]:g}, and there are ratings from "
                f"{occurring[0]:g} to {occurring[1]:g}"
            )
        return self.scale


class SplitSettings(Section):
    """The users that make the global model, and the rows that train it; see hierfed.data.splits.

    protocol: `two_groups` as in the paper, or `warm`, `temporal`, `loo` (leave one out: each user's newest rating) or
    `cold`; `given` if the data name their test rows; `none` learns from every row, for a model to use, and judges
    nothing.
    judged_on: `test` rows; or `validation` rows, to choose settings by: test rows are then left out, and the protocol
    splits the others once more.
    test_share: share of each user's rows under warm, temporal and cold; 0 means 0.2, and 0.3 under cold.
    federated_users: share of the users who train the global model, under two_groups and cold.
    train_rows: share of their rows that train it, under two_groups.
    sample: share of the train rows that are used, under two_groups and given.
    personal_train_rows: share of the other users' rows that personalise, under two_groups.
    """

    protocol: Protocol = "two_groups"
    judged_on: Literal["test", "validation"] = "test"
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    federated_users: OpenShare = 0.7
    train_rows: OpenShare = 0.7
    sample: Share = 1.0
    personal_train_rows: OpenShare = 0.8

    @property
    def newest(self) -> bool:
        """True where the newest rows are test."""
        return self.protocol in ("temporal", "loo")
