"""The method that sends nothing: every user learns alone, from public features and their own ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hierfed.data.content import Content
from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.method import Method, Restorer
from hierfed.federated.private import PrivateState
from hierfed.methods.local.personal import PersonalLocal, fit_local, public_prior, restore_local
from hierfed.models.scale import scale_of


@dataclass(frozen=True)
class LocalOnly(Method):
    """Each user's own Gaussian process on public features. There are no rounds, and the shared model is empty.

        r_ui = m_i + x_i . w_u + g_u(i) + e,  w_u ~ N(0, S),  g_u ~ GP(0, k),  e ~ N(0, noise)

    m_i follows from public votes, x_i and the kernel k from public features; see hierfed.methods.local.personal.

    Source: kriging (Matheron, 1963); see hierfed.models.kriging.

    limits: the lowest and the highest possible rating.
    """

    content: Content
    limits: tuple[float, float]
    threads: int = 1

    def start(self) -> SharedModel:
        """An empty model; see SumMethod."""
        return SharedModel({})

    def contribute(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> Iterator[tuple[Contribution, None]]:
        """No contribution; see SumMethod."""
        yield from ((Contribution({}), None) for _ in nodes)

    def combine(self, shared: SharedModel, total: Contribution) -> SharedModel:
        """An empty model; see SumMethod."""
        return SharedModel({}, shared.round + 1)

    def restorer(self, shared: SharedModel) -> Restorer:
        """See Method."""
        prior = public_prior(self.content)
        return lambda kept: restore_local(prior, kept, self.limits, self.threads)

    def predict(self, shared: SharedModel, ratings: Ratings) -> Tensor:
        """Expected ratings from public votes alone; see Method."""
        mean = public_prior(self.content).mean[torch.from_numpy(ratings.item).long()]
        return scale_of(self.limits).in_stars(mean).clamp(*self.limits)

    def personalise(
        self, shared: SharedModel, nodes: Sequence[Node], private: Sequence[PrivateState | None]
    ) -> list[PersonalLocal]:
        """Each user's Gaussian process; see Method."""
        prior = public_prior(self.content)
        return [fit_local(prior, node.train, self.limits, self.threads) for node in nodes]
