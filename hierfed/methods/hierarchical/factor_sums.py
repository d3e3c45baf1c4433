"""The sums over users in a round of the hierarchical model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hierfed.methods.hierarchical.beliefs import Beliefs
from hierfed.methods.hierarchical.cohort import Cohort, Part, Team, add_up
from hierfed.methods.hierarchical.design import Design
from hierfed.methods.hierarchical.factor_states import Memory
from hierfed.methods.hierarchical.rare_items import rare_sums, told_by
from hierfed.methods.hierarchical.users import (
    ItemMoments,
    Posterior,
    Users,
    evidence,
    item_moments,
    item_sums,
    posterior,
    precision_of,
)
from hierfed.models.symmetric import pack, packed_size

Arrange = Callable[[int], Users]
"""Gives the users of the cohort's piece with this number, ready for the rounds."""


@dataclass(frozen=True)
class RoundKnowledge:
    """The inputs of nodes to a round.

    own_noise: True if users estimate precisions of their own in it.
    strength: a0, of the prior of these precisions.
    unit: of ratings.
    threshold: raters from which an item is summed by itself; see rare_items for the others.
    """

    beliefs: Beliefs
    design: Design
    moments: ItemMoments
    own_noise: bool
    strength: float
    unit: Tensor
    threshold: int = 0

    @classmethod
    def of(
        cls,
        beliefs: Beliefs,
        design: Design,
        own_noise: bool,
        strength: float,
        unit: Tensor,
        implicit: Tensor | None = None,
        pooled: bool = False,
        threshold: int = 0,
    ) -> RoundKnowledge:
        """See RoundKnowledge.

        implicit, pooled: as of item_moments.
        """
        moments = item_moments(beliefs, design, implicit, pooled)
        return cls(beliefs, design, moments, own_noise, strength, unit, threshold)


def round_sums(
    known: RoundKnowledge,
    cohort: Cohort,
    arrange: Arrange,
    at_nodes: Tensor,
    precision: Tensor,
    team: Team,
    on_done: Callable[[float], None],
) -> tuple[dict[str, Tensor], Memory]:
    """The sums over a cohort's users, and the users' memory of the round.

    The sums are added piece by piece, so they are the same on any number of threads. `known` and the users may lie on a
    device. All else, the results included, lies in main memory.

    at_nodes: m_node, [nodes, t].
    precision: the precisions in the users' posteriors, [users].
    """
    device = known.unit.device
    told = told_by(cohort, known.design, known.threshold).to(device) if known.moments.rare is not None else None
    size, users = at_nodes.shape[1], len(cohort)
    new = at_nodes.new_empty
    mean, deviation = new(users, size), new(users, size)
    covariance, squared_error, found_precision = new(users, packed_size(size)), new(users), new(users)

    def work(number: int) -> Part:
        chosen = cohort.pieces[number]
        here = at_nodes[cohort.node_of_users[chosen]].to(device)
        telling = None if told is None else told[chosen]
        part, found, prior, tau = _part(known, arrange(number), here, precision[chosen].to(device), telling)
        mean[chosen], squared_error[chosen], found_precision[chosen] = found.mean, found.squared_error, tau
        covariance[chosen], deviation[chosen] = pack(found.covariance), found.mean - prior
        return part

    sums = in_main_memory(add_up(cohort.parts(work, team, on_done), len(known.design.shared_items)))
    at_node = _node_deviations(deviation, cohort)
    sums["users"] = mean.new_tensor([users])
    sums["ratings"] = mean.new_tensor([len(cohort.item)])
    sums["loss"] = known.unit.square().cpu() * sums["squared_error"]
    sums["node_moments"] = _node_moments(at_node, cohort.users_of_nodes)
    return sums, Memory(mean, covariance, squared_error, found_precision, at_node)


def in_main_memory(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums in main memory, ready to be sent, if they were added on a device."""
    return {name: values.cpu() for name, values in sums.items()}


def _part(
    known: RoundKnowledge, users: Users, here: Tensor, before: Tensor, told: Tensor | None
) -> tuple[Part, Posterior, Tensor, Tensor]:
    """Some users' part of the sums, with their posteriors, prior means B'h and precisions.

    here: m_node of each user, [users, t].
    told: as of rare_sums; None where items under the threshold are not pooled.
    """
    beliefs = known.beliefs
    seen = evidence(known.moments, users)
    prior = seen.covariates @ beliefs.covariate_weights
    found = posterior(seen, beliefs.user_spread, prior + here, before)
    tau = before
    if known.own_noise:
        tau = precision_of(known.strength, beliefs.precision, users.rows.counts, found.squared_error)
    item_precision, item_pull = item_sums(known.design, users, found, tau, beliefs.rank)
    deviations = found.mean - prior - here
    in_all = {
        "covariate_products": seen.covariates.T @ seen.covariates,
        "covariate_targets": seen.covariates.T @ (found.mean - here),
        "user_moments": deviations.T @ deviations + found.covariance.sum(0),
        "precision": tau.sum().reshape(1),
        "squared_error": found.squared_error.sum().reshape(1),
    }
    if told is not None:
        in_all |= rare_sums(seen, found, tau, beliefs.item_spread[0, 0], told)
    part = Part(users.rows.sent, {"item_precision": item_precision, "item_pull": item_pull}, in_all)
    return part, found, prior, tau


def _node_deviations(deviation: Tensor, cohort: Cohort) -> Tensor:
    """The mean over each node's users, [nodes, t]."""
    sums = np.add.reduceat(deviation.numpy(), cohort.nodes[:-1], axis=0)
    return torch.from_numpy(sums) / cohort.users_of_nodes[:, None]


def _node_moments(deviation: Tensor, users: Tensor) -> Tensor:
    """Moments that test for differences between nodes, summed over nodes: [6, t].

    users: number of users of each node, [nodes].
    """
    once_and_by_users = torch.stack([torch.ones_like(users), users])
    once, by_users = once_and_by_users @ deviation
    squares, squares_by_users = once_and_by_users @ deviation.square()
    inverse_users, nodes = (total.expand_as(once) for total in ((1 / users).sum(), users.new_tensor(len(users))))
    return torch.stack([once, squares, inverse_users, nodes, squares_by_users, by_users])
