"""What every node holds to serve its users: the shared model, public features and the parameters of kriging."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.node_items import NodeItems, items_of
from hierfed.methods.hierarchical.users import ItemMoments, item_moments
from hierfed.models.intervals import group_of
from hierfed.models.kernel import ItemKernel
from hierfed.models.kriging import Kriging, Observations

# The prior variance of users' slopes on what an unknown user expects of items: how much users differ in their response
# to good films. It is no slope on b_i alone, since what all users like stands in b_i or in the mean of z_u.
QUALITY_SLOPE_VARIANCE = 0.1
NO_KERNEL = ItemKernel((), None, 0.0)


@dataclass(frozen=True)
class Scale:
    """The scale of ratings, centre + unit x prediction, cut to [lowest, highest]."""

    centre: float
    unit: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class SharedKnowledge:
    """The data that every node holds to serve its users: shared model, public features, kriging parameters.

    kernel: None for no kriging.
    noise_share: share of a user's noise variance that kriging leaves unexplained.
    deviation_scale: factor on the standard deviations of predictions.
    implicit: as in ItemMoments.
    group_scales: further factors by the user's number of own ratings, for the groups of hierfed.models.intervals; empty
    for none.
    at_node: items under the threshold as a node's own users know them; None for none.
    """

    beliefs: Beliefs
    design: Design
    scale: Scale
    kernel: ItemKernel | None
    noise_share: float
    deviation_scale: float
    threads: int
    implicit: Tensor | None = None
    group_scales: tuple[float, ...] = ()
    at_node: NodeItems | None = None

    def scale_of(self, own: Tensor) -> Tensor:
        """The factor on the standard deviations for these numbers of own ratings."""
        if not self.group_scales:
            return torch.full(own.shape, self.deviation_scale, dtype=torch.float64)
        return self.deviation_scale * torch.tensor(self.group_scales, dtype=torch.float64)[group_of(own)]

    @cached_property
    def moments(self) -> ItemMoments:
        """The moments of all items that users' posteriors need."""
        return item_moments(self.beliefs, self.design, self.implicit)

    def vectors(self, item: Tensor) -> Tensor:
        """x_i = (1, q_i, f_i) of each row's item, [rows, t]."""
        return self.vectors_by(self.items(item)[0], item)

    def vectors_by(self, mean: Tensor, item: Tensor) -> Tensor:
        """The same, where mean [rows, 1 + rank] of (b_i, q_i) is known."""
        return torch.cat([mean.new_ones(len(item), 1), mean[:, 1:], self.design.slopes[item]], 1)

    def items(self, item: Tensor) -> tuple[Tensor, Tensor]:
        """The means [rows, 1 + rank] and packed covariances of (b_i, q_i) of each row's item, as the node knows it."""
        return items_of(self.beliefs, self.at_node, item)[:2]

    def expected(self, weights: Tensor) -> Tensor:
        """The factors' expected ratings of all items, up to a constant: [users, items].

        weights: the users' z_u, [users, t].
        """
        bias, vectors = self.shared_vectors
        found = bias + weights @ vectors.T
        if self.at_node is not None:
            found[:, self.at_node.numbers] = self.expected_of(self.at_node, weights)
        return found

    def expected_of(self, own: NodeItems, weights: Tensor) -> Tensor:
        """The same of the items that a node knows itself: [users, own items]."""
        return own.mean[:, 0] + weights @ self.vectors_by(own.mean, own.numbers).T

    @cached_property
    def shared_vectors(self) -> tuple[Tensor, Tensor]:
        """b_i [items] and x_i [items, t] of all items as the shared model knows them."""
        mean = self.beliefs.item_mean
        return mean[:, 0], self.vectors_by(mean, torch.arange(len(mean), device=mean.device))

    def of_node(self, items: NodeItems | None) -> SharedKnowledge:
        """The same at a node that knows these items itself. Vectors of all items are made once for all nodes."""
        found = replace(self, at_node=items)
        vars(found)["shared_vectors"] = self.shared_vectors
        return found

    def kriging(self, own: Observations) -> Kriging:
        """Kriging on (x_i, c_i): besides z_u, each user has a slope on the items' quality, of prior mean 0."""
        spread = torch.nn.functional.pad(self.beliefs.user_spread, (0, 1, 0, 1))
        spread[-1, -1] = QUALITY_SLOPE_VARIANCE
        return Kriging(self.kernel or NO_KERNEL, spread, own, self.threads)

    def with_quality(self, vectors: Tensor, bias: Tensor) -> Tensor:
        """(x_i, c_i), where c_i = b_i + x_i . z_0 is the expectation of an unknown user, whose z_0 has no covariates.

        vectors [rows, t]: x_i. bias [rows]: b_i.
        """
        return torch.cat([vectors, (bias + vectors @ self.beliefs.covariate_weights[0])[:, None]], 1)

    def bias_in(self, vectors: Tensor) -> Tensor:
        """b_i of vectors that `with_quality` gave, [rows, 1]."""
        return vectors[:, -1:] - vectors[:, :-1] @ self.beliefs.covariate_weights[0][:, None]

    def kriging_vectors(self, item: Tensor) -> Tensor:
        """(x_i, c_i) of each row's item, [rows, t + 1]."""
        mean = self.items(item)[0]
        return self.with_quality(self.vectors_by(mean, item), mean[:, 0])
