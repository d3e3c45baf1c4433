"""The half-life of personal models: the time for which one stays better than the global one without new ratings."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method

DAY = 86_400.0
# Ends of the groups of ages, in days.
AGES = (1.0, 7.0, 30.0, 90.0, 365.0, 1095.0)


@dataclass(frozen=True)
class AgedErrors:
    """Sums over rows by the age of the user's model, the time since the last rating that it knows; see AGES.

    rows, personal, unknown: how many, squared errors of the users' models and of the global one, which knows nothing of
    the user; float64 [len(AGES) + 1].
    """

    rows: np.ndarray = field(default_factory=lambda: np.zeros(len(AGES) + 1))
    personal: np.ndarray = field(default_factory=lambda: np.zeros(len(AGES) + 1))
    unknown: np.ndarray = field(default_factory=lambda: np.zeros(len(AGES) + 1))

    def and_those_of(
        self,
        method: Method,
        shared: SharedModel,
        predict: Callable[[Ratings], np.ndarray],
        known: Ratings,
        later: Ratings,
    ) -> AgedErrors:
        """With the errors on all later ratings of users of whom some are known."""
        size = 1 + int(max(known.user.max(), later.user.max()))
        last = np.full(size, -1, np.int64)
        assert known.time is not None
        assert later.time is not None
        np.maximum.at(last, known.user, known.time)
        rows = later.take(last[later.user] >= 0)
        if not len(rows):
            return self
        assert rows.time is not None
        group = np.searchsorted(AGES, (rows.time - last[rows.user]) / DAY, side="right")
        told = (predict(rows) - rows.value) ** 2
        nobody = (method.predict(shared, rows_to_predict(rows.user, rows.item)).numpy() - rows.value) ** 2
        sums = (np.bincount(group, each, minlength=len(AGES) + 1) for each in (np.ones(len(rows)), told, nobody))
        return AgedErrors(*(old + new for old, new in zip((self.rows, self.personal, self.unknown), sums, strict=True)))

    def gains(self) -> list[tuple[str, int, float]]:
        """The ages in words, rows, and RMSE of the global model minus that of the users' own; NaN without rows."""
        with np.errstate(invalid="ignore"):
            gain = np.sqrt(self.unknown / self.rows) - np.sqrt(self.personal / self.rows)
        names = [f"under {AGES[0]:g} day"] + [f"{low:g} to {high:g} days" for low, high in itertools.pairwise(AGES)]
        names.append(f"over {AGES[-1]:g} days")
        return [(name, int(rows), float(each)) for name, rows, each in zip(names, self.rows, gain, strict=True)]

    def half_life(self) -> str:
        """The first age at which the gain is at most half of what it is at first, in words."""
        gains = [(name, gain) for name, rows, gain in self.gains() if rows]
        if not gains:
            return "not measured: no user rated again"
        lost = [name for name, gain in gains if gain <= gains[0][1] / 2]
        return lost[0] if lost else f"longer than measured ({gains[-1][0]})"
