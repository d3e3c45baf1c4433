"""The scale that models learn on: every rating scale is stretched onto MovieLens' own, from half a star to five."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

LOWEST, HIGHEST = 0.5, 5.0

Values = TypeVar("Values", float, np.ndarray, Tensor)


@dataclass(frozen=True)
class RatingScale:
    """A line between what a model learns and the ratings of the data: rating = unit * learned + zero.

    Learning rates, penalties and bounds on gradients so mean the same on any rating scale. From half a star to five,
    the line changes no bit.
    """

    unit: float = 1.0
    zero: float = 0.0

    def learned(self, stars: Values) -> Values:
        """Ratings of the data as a model learns them."""
        return (stars - self.zero) / self.unit

    def in_stars(self, learned: Values) -> Values:
        """What a model has learned, as ratings of the data."""
        return self.unit * learned + self.zero


UNCHANGED = RatingScale()


def scale_of(limits: tuple[float, float]) -> RatingScale:
    """The line that takes the lowest rating there can be to 0.5, and the highest to 5.

    limits: public, such as those of the settings or of a federation's plan. Where both are one rating, it goes to 0.5.
    """
    unit = (limits[1] - limits[0]) / (HIGHEST - LOWEST) or 1.0
    return RatingScale(unit, limits[0] - unit * LOWEST)


def header_of(scale: RatingScale) -> dict[str, str]:
    """What who reads a network's file needs: rating = unit * output + zero."""
    return {"unit": repr(scale.unit), "zero": repr(scale.zero)}
