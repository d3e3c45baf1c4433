"""The public features that the priors of items and users use, and the items whose sums are sent."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import Content

SCALAR_SLOPE_VARIANCE = 0.003
FLAG_SLOPE_VARIANCE = 0.005
# Genres and years vary less than the standardised scalars. Users' means of them vary still less.
FLAG_COVARIATE_SCALE = 3.0
# Of the regression of embeddings on traits, as a share of the mean square.
EMBEDDING_RIDGE = 0.1


@dataclass(frozen=True)
class Design:
    """Features of all items as the model uses them; float64, centred with the numbers of raters as weights.

    raters [items]: number of raters; half the threshold for items under the threshold.
    shared [items]: 1 if the item has enough raters for its sums to be sent, else 0.
    slopes [items, s]: f, the features that each user has a private slope on.
    slope_variances [s]: prior variances of the slopes.
    covariates [items, c]: item features whose means over a user's rated items enter the user's prior mean.
    content [items, d]: item features in an item's prior mean, except the embedding; column 0 is 1.
    traits [items, e]: item features that tell where it is in the embedding; column 0 is 1. Years and numbers of raters
        are none: items without raters enough lie beyond the others' numbers, and new ones beyond their years.
    """

    raters: Tensor
    shared: Tensor
    slopes: Tensor
    slope_variances: Tensor
    covariates: Tensor
    content: Tensor
    traits: Tensor

    def to(self, device: torch.device) -> Design:
        """The same on a device."""
        if self.shared.device == device:
            return self
        return Design(*(getattr(self, field.name).to(device) for field in fields(self)))

    @cached_property
    def padded_content(self) -> Tensor:
        """(1, f_i) of all items and a last row of zeros, [items + 1, 1 + s]."""
        content = torch.cat([self.slopes.new_ones(len(self.slopes), 1), self.slopes], 1)
        return torch.cat([content, content.new_zeros(1, content.shape[1])])

    @property
    def shared_items(self) -> Tensor:
        """The numbers of the shared items, ascending: the items that rows of sums belong to."""
        return self.shared.nonzero()[:, 0]

    def among_all(self, rows: Tensor) -> Tensor:
        """Rows for all items [items, columns], from rows for the shared items; all other rows are zero."""
        return rows.new_zeros(len(self.shared), rows.shape[1]).index_copy_(0, self.shared_items, rows)

    def centred(self, features: Tensor) -> Tensor:
        """The features minus their mean over ratings."""
        return features - (self.raters @ features) / self.raters.sum()

    def embedded(self, embedding: Tensor) -> Tensor:
        """An embedding, centred and of unit mean square over ratings.

        Items that are not shared have none of their own: a ridge regression of the shared ones on traits tells theirs.

        embedding [items, k]: 0 for items that are not shared.
        """
        centred = self.centred(embedding)
        square = (self.raters @ centred.square()).sum() / (self.raters.sum() * max(embedding.shape[1], 1))
        if not square > 0:
            return centred
        found, known = centred / square.sqrt(), self.traits[self.shared_items]
        products = known.T @ known
        products.diagonal().add_(EMBEDDING_RIDGE * products.diagonal().mean())
        weights = torch.linalg.solve(products, known.T @ found[self.shared_items])
        return torch.where(self.shared[:, None] > 0, found, self.traits @ weights)

    def prior_features(self, embedding: Tensor) -> Tensor:
        """F, the features in an item's prior mean: its content and its embedding."""
        return torch.cat([self.content, self.embedded(embedding)], 1)


def design_of(content: Content, raters: Tensor, threshold: int) -> Design:
    """The features of all items.

    raters: the numbers of raters, float64 [items], from a sum over nodes.
    """

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(raters)

    shared = (raters >= max(threshold, 1)).to(raters.dtype)
    weights = torch.where(raters >= threshold, raters, threshold / 2)
    log_raters = (torch.log1p(weights) / 3)[:, None]
    flags = torch.cat([tensor(content.unit_genres), tensor(content.year_bumps), log_raters, log_raters.square()], 1)
    scalars = tensor(content.scalars)
    genres = tensor(content.genres) if scalars.shape[1] else scalars
    unfinished = Design(weights, shared, flags, flags, flags, flags, flags)
    scalars, centred, genres = (unfinished.centred(each) for each in (scalars, flags, genres))
    return Design(
        raters=weights,
        shared=shared,
        slopes=torch.cat([scalars, centred], 1),
        slope_variances=torch.cat(
            [
                scalars.new_full((scalars.shape[1],), SCALAR_SLOPE_VARIANCE),
                scalars.new_full((flags.shape[1],), FLAG_SLOPE_VARIANCE),
            ]
        ),
        covariates=torch.cat([scalars, FLAG_COVARIATE_SCALE * centred], 1),
        content=torch.cat([torch.ones_like(log_raters), flags, scalars, genres], 1),
        traits=torch.cat([torch.ones_like(log_raters), tensor(content.unit_genres), scalars, genres], 1),
    )
