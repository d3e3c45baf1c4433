"""The scale that models learn on. Every rating scale is mapped linearly to MovieLens' own, from 0.5 to 5 stars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

LOWEST, HIGHEST = 0.5, 5.0

Values = TypeVar("Values", float, np.ndarray, Tensor)


@dataclass(frozen=True)
class RatingScale:
    """A linear map between the scale of models and that of the data: rating = unit * learned + zero.

    So learning rates, penalties and bounds on gradients mean the same on any rating scale. From half a star to five,
    the map changes no bit.
    """

    unit: float = 1.0
    zero: float = 0.0

    def learned(self, stars: Values) -> Values:
        """Ratings of the data on the scale of models."""
        return (stars - self.zero) / self.unit

    def in_stars(self, learned: Values) -> Values:
        """Numbers on the scale of models as ratings of the data."""
        return self.unit * learned + self.zero


UNCHANGED = RatingScale()


def scale_of(limits: tuple[float, float]) -> RatingScale:
    """The map that takes the lowest possible rating to 0.5, and the highest to 5.

    limits: public, such as those of the settings or of a federation's plan. If both are equal, they go to 0.5.
    """
    unit = (limits[1] - limits[0]) / (HIGHEST - LOWEST) or 1.0
    return RatingScale(unit, limits[0] - unit * LOWEST)


def header_of(scale: RatingScale) -> dict[str, str]:
    """The header entries that the reader of a network's file needs: rating = unit * output + zero."""
    return {"unit": repr(scale.unit), "zero": repr(scale.zero)}
