"""Public data on the items."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import polars as pl

NUMERIC_FEATURES = ("popularity", "runtime", "vote_average", "vote_count", "revenue")


@dataclass(frozen=True)
class Catalogue:
    """Public data on the items, one row per item, in the order of the dense item numbers.

    frame: column `item_id` (the source's own id); and, null if unknown: `title` (str), `year` (int32), `genres`
    (list[str], as the ratings' own source names them), `metadata_genres` (list[str], from joined metadata), `matched`
    (bool, True if metadata was found), and those of NUMERIC_FEATURES that the source has (float64).
    """

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    @property
    def numeric_features(self) -> tuple[str, ...]:
        """Names of the numeric features that this catalogue has, in the order of NUMERIC_FEATURES."""
        return tuple(name for name in NUMERIC_FEATURES if name in self.frame.columns)

    def digest(self) -> str:
        """sha256 over names and values. Equal catalogues have equal digests, in any storage and order of columns."""
        lists = [name for name, kind in self.frame.schema.items() if isinstance(kind, pl.List)]
        flat = self.frame.with_columns(pl.col(lists).list.join("\x1f")) if lists else self.frame
        flat = flat.select(sorted(flat.columns))
        return hashlib.sha256(flat.write_csv(null_value="\x00").encode()).hexdigest()
