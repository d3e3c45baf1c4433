"""The settings of the data: their source and their split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hierfed.errors import SettingsError
from hierfed.section import OpenShare, Section, Share

Join = Literal["links", "paper", "title", "none"]
Protocol = Literal["two_groups", "warm", "temporal", "cold", "given"]


class DataSettings(Section):
    """The ratings, and the source of the items' features.

    source: `embedded`, `movielens-small`, a folder, a table, or a database.
    query: the SELECT that reads a database.
    join: `links`, `paper`, `title` or `none`, in order of preference; empty for the source's default.
    unmatched: `drop` or `keep` ratings of items without metadata; empty for the join's default.
    test: a named split, or a file with the test rows.
    columns: the table's names for user, item, rating and time.
    vote_average: `use` it in the hierarchical and the local model or `leave_out`; `auto` leaves it out under protocol
    temporal, since it would be newer than the train rows.
    scale: the lowest and the highest possible rating; empty for those that occur.
    """

    source: str = "embedded"
    query: str = ""
    join: Annotated[tuple[Join, ...], BeforeValidator(lambda asked: (asked,) if isinstance(asked, str) else asked)] = ()
    unmatched: Literal["", "drop", "keep"] = ""
    test: str = ""
    columns: dict[str, str] = Field(default_factory=dict)
    vote_average: Literal["auto", "use", "leave_out"] = "auto"
    scale: tuple[()] | tuple[float, float] = ()

    @model_validator(mode="after")
    def _scale_ascends(self) -> DataSettings:
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

    protocol: `two_groups` as in the paper, or `warm`, `temporal` or `cold`; `given` if the data name their test rows.
    test_share: share of each user's rows under warm, temporal and cold; 0 means 0.2, and 0.3 under cold.
    train_rows, sample and personal_train_rows: under two_groups; sample under given too.
    """

    protocol: Protocol = "two_groups"
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    federated_users: OpenShare = 0.7
    train_rows: OpenShare = 0.7
    sample: Share = 1.0
    personal_train_rows: OpenShare = 0.8
