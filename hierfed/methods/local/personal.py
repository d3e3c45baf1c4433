"""A model that never leaves its user: a Gaussian process on public features. It learns nothing from anyone else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hierfed.data.content import NEUTRAL_VOTE, Content
from hierfed.data.ratings import Ratings
from hierfed.federated.private import UncertainModel
from hierfed.models.influence import Influence
from hierfed.models.kernel import ItemKernel
from hierfed.models.kriging import Kriging, Observations
from hierfed.models.places import numbers_of, places_among
from hierfed.models.scale import scale_of

# The usual rating, on the scale that models learn on; see models.scale.
USUAL_RATING = 3.3


@dataclass(frozen=True)
class PriorScales:
    """The parameters of a public prior, on a scale from 0.5 to 5.

    vote_slope: stars per point of the items' public votes.
    bias, vote, scalar, genre: variances of the users' weights on 1, the vote average, other scalars and genres.
    kernel, title: amplitudes, as variances.
    noise: a variance.
    vote_scale, votes_scale, year_scale, genre_scale: the weights of these features in the kernel's distance.
    """

    vote_slope: float = 0.6
    bias: float = 0.2
    vote: float = 0.05
    scalar: float = 0.004
    genre: float = 0.015
    kernel: float = 0.25
    title: float = 0.2
    noise: float = 0.45
    vote_scale: float = 0.4
    votes_scale: float = 0.4
    year_scale: float = 1.0
    genre_scale: float = 0.8


@dataclass(frozen=True)
class PublicPrior:
    """The prior of each user's ratings, before any rating is seen; on a scale from 0.5 to 5.

    mean: prior means of the items, [items].
    vectors: their features x, [items, t].
    spread: prior covariance of a user's weights on x, [t, t], diagonal.
    kernel: of deviations from the linear part.
    noise: variance of the noise.
    doubt: variances of the prior means, [items].
    """

    mean: Tensor
    vectors: Tensor
    spread: Tensor
    kernel: ItemKernel
    noise: float
    doubt: Tensor


def public_prior(content: Content, scales: PriorScales = PriorScales()) -> PublicPrior:
    """The prior of public features: means from smoothed votes, weights on features, a kernel on content and titles.

    The features are 1, scalars and genres.
    """
    scalars = [scales.vote if name == "vote_average" else scales.scalar for name in content.names]
    variances = [scales.bias, *scalars, *[scales.genre] * content.genres.shape[1]]
    features = np.column_stack([np.ones(len(content)), content.scalars, content.genres])
    where = np.column_stack(
        [
            scales.vote_scale * content.vote,
            scales.votes_scale * content.votes,
            scales.year_scale * content.year,
            scales.genre_scale * content.genres,
        ]
    )
    return PublicPrior(
        mean=torch.from_numpy(USUAL_RATING + scales.vote_slope * (content.vote_average - NEUTRAL_VOTE)),
        vectors=torch.from_numpy(features),
        spread=torch.diag(torch.tensor(variances, dtype=torch.float64)),
        kernel=ItemKernel(((scales.kernel, torch.from_numpy(where)),), content.titles, scales.title),
        noise=scales.noise,
        doubt=torch.zeros(len(content), dtype=torch.float64),
    )


@dataclass(frozen=True)
class PersonalLocal(UncertainModel):
    """The users of one node, each with a Gaussian process of their own.

    users: their numbers, ascending, [users].
    limits: the lowest and the highest possible rating.
    """

    prior: PublicPrior
    limits: tuple[float, float]
    users: Tensor
    own: Observations
    threads: int
    interpolates: ClassVar[bool] = True

    def within(self, ratings: Tensor) -> Tensor:
        """See UncertainModel."""
        return ratings.clamp(*self.limits)

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """The user's Gaussian process; see UncertainModel."""
        (mean, variance), scale = self.on_the_scale_of_models(rows), scale_of(self.limits)
        return scale.in_stars(mean), scale.unit**2 * variance

    def on_the_scale_of_models(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """The same on a scale from 0.5 to 5."""
        user, item = numbers_of(rows)
        place, known = places_among(self.users, user)
        x, mean = self.prior.vectors[item], self.prior.mean[item].clone()
        variance = (x.square() @ torch.diagonal(self.prior.spread)) + self.prior.kernel.of_itself(item)
        loudness = torch.ones_like(mean)
        deviation, left, louder = self.kriging.predict(place[known], item[known], x[known])
        mean[known] += deviation
        variance[known], loudness[known] = left, louder
        noise = (self.prior.noise + self.prior.doubt[item]) * loudness
        return mean, variance + noise

    @property
    def kriging(self) -> Kriging:
        """Kriging of the users' own ratings on top of the prior."""
        return Kriging(self.prior.kernel, self.prior.spread, self.own, self.threads)

    def influence(self, item: Tensor, time: int | None = None) -> Influence | None:
        """See PersonalModel."""
        if not len(self.own.items):
            return None
        return self.kriging.influence(0, item, self.prior.vectors[item]).times(scale_of(self.limits).unit)

    def likeness(self, item: int) -> Tensor:
        """By the public prior; see PersonalModel."""
        return self.kriging.likeness(item, self.prior.vectors)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """Each user's ratings, which determine all else; see PersonalModel."""
        counts, users = self.own.counts.tolist(), self.users.tolist()
        items, ratings = torch.split(self.own.items, counts), torch.split(self.own.ratings, counts)
        for user, rated, stars in zip(users, items, ratings, strict=True):
            yield user, {"items": rated, "ratings": stars}


def fit_local(
    prior: PublicPrior, train: Ratings, limits: tuple[float, float], threads: int, means: Tensor | None = None
) -> PersonalLocal:
    """The models of the users of these ratings.

    means: the prior means of these ratings, [ratings], where they are others than the items' own.
    """
    order = np.lexsort((train.item, train.user))
    users, counts = np.unique(train.user, return_counts=True)
    items = torch.from_numpy(train.item[order]).long()
    stars = torch.from_numpy(train.value[order]).double()
    expected = prior.mean[items] if means is None else means[torch.from_numpy(order)]
    return PersonalLocal(
        prior,
        limits,
        torch.from_numpy(users).long(),
        Observations(
            counts=torch.from_numpy(counts).long(),
            items=items,
            ratings=stars,
            vectors=prior.vectors[items],
            residuals=scale_of(limits).learned(stars) - expected,
            noise=prior.noise + prior.doubt[items],
        ),
        threads,
    )


def restore_local(
    prior: PublicPrior, kept: Mapping[str, Tensor], limits: tuple[float, float], threads: int
) -> PersonalLocal:
    """The model of one user, number 0, from the output of PersonalLocal.tensors for that user.

    kept: empty for a model without users.
    """
    items = kept["items"].numpy() if kept else np.empty(0, np.int64)
    stars = kept["ratings"].numpy() if kept else np.empty(0)
    return fit_local(prior, Ratings(np.zeros(len(items), np.int32), items, stars), limits, threads)
