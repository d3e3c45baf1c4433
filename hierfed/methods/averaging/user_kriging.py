"""Personalisation of a user by the own history: a Gaussian process of the user's residuals on top of a network.

    r_ui = f_k(u, i) + x_i . w_u + g_u(i) + e,  w_u ~ N(0, S),  g_u ~ GP(0, k),  e ~ N(0, noise)

f_k is the node's network. x_i, S, k and the noise are the public prior of method `local`, without its means. It is
attention over the user's own ratings, whose weights are solved for: each prediction adds the user's residuals, weighted
by the likeness of their items. Nothing of it leaves the user.

Source: kriging (Matheron, 1963); see hierfed.models.kriging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.ratings import Ratings
from hierfed.federated.private import PersonalModel, UncertainModel
from hierfed.methods.local.personal import PersonalLocal, PublicPrior, fit_local, public_prior
from hierfed.models.influence import Influence
from hierfed.models.scale import scale_of


@dataclass(frozen=True)
class UserKriging:
    """The parts of users' Gaussian processes that are the same for all.

    prior: its means are 0. limits: the lowest and the highest possible rating.
    """

    prior: PublicPrior
    limits: tuple[float, float]
    threads: int

    @classmethod
    def of(cls, content: Content, limits: tuple[float, float], threads: int) -> UserKriging:
        """With the prior of these items' public features."""
        prior = public_prior(content)
        return cls(replace(prior, mean=torch.zeros_like(prior.mean)), limits, threads)

    def on_top(self, network: PersonalModel, own: Ratings) -> KrigedUsers:
        """The node's network with its users' Gaussian processes. own: the users' ratings, which the network keeps."""
        means = scale_of(self.limits).learned(network.predict(own))
        return KrigedUsers(network, fit_local(self.prior, own, self.limits, self.threads, means))


@dataclass(frozen=True)
class KrigedUsers(UncertainModel):
    """A node's network, and its users' Gaussian processes of what it leaves of their ratings."""

    network: PersonalModel
    process: PersonalLocal
    interpolates: ClassVar[bool] = True

    def distribution(self, rows: Ratings) -> tuple[Tensor, Tensor]:
        """The network's ratings plus the user's process; of the network no doubt is known. See UncertainModel."""
        deviation, variance = self.process.on_the_scale_of_models(rows)
        unit = scale_of(self.process.limits).unit
        return self.network.predict(rows) + unit * deviation, unit**2 * variance

    def within(self, ratings: Tensor) -> Tensor:
        """See UncertainModel."""
        return self.process.within(ratings)

    @property
    def finite(self) -> bool:
        """See PersonalModel."""
        return self.network.finite

    def weight_change(self, shared: Mapping[str, Tensor]) -> float:
        """See PersonalModel."""
        return self.network.weight_change(shared)

    def influence(self, item: Tensor, time: int | None = None) -> Influence | None:
        """That of the process, where the network is held; see PersonalModel."""
        return self.process.influence(item, time)

    def likeness(self, item: int) -> Tensor:
        """By the public prior; see PersonalModel."""
        return self.process.likeness(item)

    def tensors(self) -> Iterator[tuple[int | None, dict[str, Tensor]]]:
        """Those of the network, which hold the users' ratings: with them the process is made again."""
        return self.network.tensors()
