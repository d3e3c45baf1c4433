"""A node's users under the hierarchical model: posteriors from their own ratings, and kriging of the residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.private import UncertainModel
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.methods.hierarchical.node_items import NodeItems
from hierfed.methods.hierarchical.observations import noise_weights, observed
from hierfed.methods.hierarchical.users import Posterior, factor_products
from hierfed.models.influence import Influence
from hierfed.models.kernel import ItemKernel
from hierfed.models.kriging import Observations
from hierfed.models.places import numbers_of, places_among
from hierfed.models.strangeness import log_densities
from hierfed.models.symmetric import pack, unpack


@dataclass(frozen=True)
class PersonalFactors(UncertainModel):
    """The users of one node.

    users: their numbers, ascending, [users].
    posterior, precision: of z_u.
    prior_mean: m_u, [users, t].
    observe: gives their ratings as observations, when they are first needed: the order of a list needs none.
    newcomer: the prior mean of a user without any rating, [t].
    """

    knowledge: SharedKnowledge
    users: Tensor
    posterior: Posterior
    precision: Tensor
    prior_mean: Tensor
    observe: Callable[[], Observations]
    newcomer: Tensor
    interpolates: ClassVar[bool] = True

    @cached_property
    def own(self) -> Observations:
        """The users' own ratings."""
        return self.observe()

    def with_kriging(self, kernel: ItemKernel, noise_share: float) -> PersonalFactors:
        """The same users with another kernel and share of noise."""
        knowledge, own = self.knowledge, self.own
        precision = torch.repeat_interleave(self.precision, own.counts)
        weights = noise_weights(knowledge.design, own.items, own.counts)
        noise = own.noise + weights * (noise_share - knowledge.noise_share) / precision
        return replace(
            self,
            knowledge=replace(knowledge, kernel=kernel, noise_share=noise_share),
            observe=lambda: replace(own, noise=noise),
        )

    def within(self, ratings: Tensor) -> Tensor:
        """See UncertainModel."""
        return ratings.clamp(self.knowledge.scale.lowest, self.knowledge.scale.highest)

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """Predictions from the user's own ratings, kriged, for the rows' times if they have any; see UncertainModel."""
        knowledge, beliefs = self.knowledge, self.knowledge.beliefs
        user, item = numbers_of(rows)
        place, known = places_among(self.users, user)
        item_mean, item_covariance = knowledge.items(item)
        x = knowledge.vectors_by(item_mean, item)
        size = 1 + beliefs.rank
        mean = x @ self.newcomer
        variance = torch.einsum("na,ab,nb->n", x, beliefs.user_spread, x)
        factors = torch.cat([self.newcomer.new_ones(1), self.newcomer[1:size]])
        newcomer = torch.outer(factors, factors)
        newcomer[1:, 1:] += beliefs.user_spread[1:size, 1:size]
        of_items = unpack(item_covariance, size)
        uncertain = torch.einsum("nab,ab->n", of_items, newcomer)
        noise = (1 / beliefs.precision).expand(len(item)).clone()
        counts = torch.zeros(len(item), dtype=torch.int64)
        if known.any():
            counts[known] = self.own.counts[place[known]]
            at, of_known = place[known], x[known]
            if knowledge.kernel is None:
                z, covariance = self.posterior.mean[at], self.posterior.covariance[at]
                mean[known] = (of_known * z).sum(1)
                variance[known] = torch.einsum("na,nab,nb->n", of_known, covariance, of_known)
                noise[known] = 1 / self.precision[at]
            else:
                queries = knowledge.with_quality(of_known, item_mean[known, 0])
                times = None if rows.time is None else torch.from_numpy(rows.time).double()[known]
                deviation, left, loudness = knowledge.kriging(self.own).predict(at, item[known], queries, times)
                mean[known] = (of_known * self.prior_mean[at]).sum(1) + deviation
                variance[known] = left
                noise[known] = loudness * knowledge.noise_share / self.precision[at]
            products = factor_products(self.posterior, beliefs.rank)[at]
            uncertain[known] = torch.einsum("nab,nab->n", of_items[known], products)
        scale = knowledge.scale
        return (
            scale.centre + scale.unit * (item_mean[:, 0] + mean),
            (knowledge.scale_of(counts) * scale.unit) ** 2 * (variance + uncertain + noise),
        )

    @property
    def weights(self) -> Tensor:
        """z_u of each user by the factors alone, [users, t]."""
        return self.posterior.mean

    def expected(self) -> Tensor:
        """Expected ratings of all items by the factors alone, up to a constant: [users, items].

        Without users: a newcomer's.
        """
        return self.knowledge.expected(self.weights if len(self.users) else self.newcomer[None])

    def scores(self, user: Tensor, items: int) -> Tensor:
        """Scores of all items by the factors alone; see PersonalModel."""
        place, known = places_among(self.users, user)
        weights = self.newcomer.expand(len(user), -1).clone()
        weights[known] = self.weights[place[known]]
        return self.knowledge.expected(weights)

    @property
    def timed(self) -> bool:
        """See PersonalModel."""
        return self.knowledge.kernel is not None and self.knowledge.kriging(self.own).timed

    def influence(self, item: Tensor, time: int | None = None) -> Influence | None:
        """The change of each item's expected rating by own ratings of the only user, without kriging approximately.

        The prior mean m_u and all noise are held; see PersonalModel.
        """
        if not len(self.own.items):
            return None
        knowledge = self.knowledge
        kriging, vectors = knowledge.kriging(self.own), knowledge.kriging_vectors(item)
        times = None if time is None else torch.full(item.shape, time, dtype=torch.float64)
        return kriging.influence(0, item, vectors, times).times(knowledge.scale.unit)

    def strangeness(self, rows: Ratings) -> Tensor | None:
        """By the factors, without kriging, whose part new ratings share; see PersonalModel."""
        if not len(self.users):
            return None
        knowledge, beliefs = self.knowledge, self.knowledge.beliefs
        item = torch.from_numpy(rows.item).long()
        (mean, covariance), size = knowledge.items(item), 1 + beliefs.rank
        vectors = knowledge.vectors_by(mean, item)
        value = (torch.from_numpy(rows.value).double() - knowledge.scale.centre) / knowledge.scale.unit
        value = value - mean[:, 0]
        of_items = unpack(covariance, size)

        def density(mean: Tensor, covariance: Tensor, precision: Tensor) -> Tensor:
            products = factor_products(Posterior(mean[None], covariance[None], mean.new_zeros(1)), beliefs.rank)[0]
            noise = 1 / precision + torch.einsum("nab,ab->n", of_items, products)
            return log_densities(value, vectors, mean, covariance, noise)

        own = density(self.posterior.mean[0], self.posterior.covariance[0], self.precision[0])
        return density(self.newcomer, beliefs.user_spread, beliefs.precision[0]) - own

    def numbered(self, user: int) -> PersonalFactors:
        """See PersonalModel."""
        return replace(self, users=torch.tensor([user]))

    def likeness(self, item: int) -> Tensor:
        """By users' spread and the kernel; see PersonalModel."""
        every = torch.arange(len(self.knowledge.beliefs.item_mean))
        return self.knowledge.kriging(self.own).likeness(item, self.knowledge.kriging_vectors(every))

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """Each user's ratings, the knowledge of their items without the user, and the posterior; see PersonalModel.

        item_mean [ratings, 1 + rank]: (b_i, q_i) of the rated items without the user's own sums.
        times: in seconds since 1970, if they are known.
        Of the node: items under the threshold as its users know them, if they do.
        """
        if self.knowledge.at_node is not None:
            yield None, self.knowledge.at_node.tensors()
        own, rank = self.own, self.knowledge.beliefs.rank
        per_rating = {
            "items": own.items,
            "ratings": own.ratings,
            "item_mean": torch.cat([self.knowledge.bias_in(own.vectors), own.vectors[:, 1 : 1 + rank]], 1),
            "noise": own.noise,
        }
        if own.times is not None:
            per_rating["times"] = own.times
        pieces = {name: torch.split(tensor, own.counts.tolist()) for name, tensor in per_rating.items()}
        for place, user in enumerate(self.users.tolist()):
            yield (
                user,
                {name: parts[place].contiguous() for name, parts in pieces.items()}
                | {
                    "mean": self.posterior.mean[place].clone(),
                    "covariance": pack(self.posterior.covariance[place]),
                    "precision": self.precision[place : place + 1].clone(),
                    "prior_mean": self.prior_mean[place].clone(),
                },
            )


def newcomer(knowledge: SharedKnowledge) -> PersonalFactors:
    """The model of a user without any rating, on a node without users."""
    empty = knowledge.beliefs.covariate_weights.new_zeros
    size = len(knowledge.beliefs.user_spread)
    return PersonalFactors(
        knowledge=knowledge,
        users=torch.empty(0, dtype=torch.int64),
        posterior=Posterior(empty(0, size), empty(0, size, size), empty(0)),
        precision=empty(0),
        prior_mean=empty(0, size),
        observe=lambda: Observations(
            counts=torch.empty(0, dtype=torch.int64),
            items=torch.empty(0, dtype=torch.int64),
            ratings=empty(0),
            vectors=empty(0, size + 1),
            residuals=empty(0),
            noise=empty(0),
        ),
        newcomer=knowledge.beliefs.covariate_weights[0],
    )


def restored(knowledge: SharedKnowledge, kept: Mapping[str, Tensor]) -> PersonalFactors:
    """The model of one user, number 0, from the output of PersonalFactors.tensors for that user and for the node.

    Without any of the user: a newcomer's.
    """
    knowledge = knowledge.of_node(NodeItems.among(kept))
    if "mean" not in kept:
        return newcomer(knowledge)
    covariance = unpack(kept["covariance"], len(kept["mean"]))[None]
    items, prior_mean = kept["items"], kept["prior_mean"][None]

    def own() -> Observations:
        counts = torch.tensor([len(items)])
        found = observed(knowledge, counts, items, kept["ratings"], kept["item_mean"], prior_mean, kept["noise"])
        return replace(found, times=kept.get("times"))

    return PersonalFactors(
        knowledge=knowledge,
        users=torch.zeros(1, dtype=torch.int64),
        posterior=Posterior(kept["mean"][None], covariance, torch.full_like(kept["precision"], torch.nan)),
        precision=kept["precision"],
        prior_mean=prior_mean,
        observe=own,
        newcomer=knowledge.beliefs.covariate_weights[0],
    )
