"""Users' own models, fitted to their own ratings from the shared model, without what they sent into it themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from hierfed.methods.hierarchical.cavity import own_ratings, without_own
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.methods.hierarchical.observations import noise_weights, observed
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.users import Posterior, Users, evidence, factor_products, posterior, precision_of
from hierfed.models.kriging import Observations
from hierfed.models.symmetric import unpack

# Alternating updates of a new user's posterior and precision, which depend on each other.
SWEEPS = 3


@dataclass(frozen=True)
class LastSums:
    """The messages of users in the last round.

    posterior, precision: the users' posteriors and precisions [users] that made their sums.
    was_sent: bool [ratings], True for the ratings in these sums, user after user and by item for each; None for all.
    """

    posterior: Posterior
    precision: Tensor
    was_sent: Tensor | None = None


def personalise_users(
    knowledge: SharedKnowledge,
    numbers: Tensor,
    users: Users,
    node_mean: Tensor,
    strength: float,
    last: LastSums | None,
    times: Tensor | None = None,
) -> PersonalFactors:
    """The users' own models, from the shared model and their own ratings.

    numbers [users]: the users' numbers, ascending.
    node_mean [t], or [users, t] for users of many nodes: m_node.
    strength: a0, of the prior of the precisions.
    last: these users' last messages, which are taken out of the items' posteriors; None for users who sent nothing.
    times: when their ratings were given, [ratings]; None if that is not known.
    """
    beliefs = knowledge.beliefs
    known = evidence(knowledge.moments, users)
    prior_mean = known.covariates @ beliefs.covariate_weights + node_mean
    if last is not None and last.was_sent is None:
        precision = last.precision
        found = posterior(known, beliefs.user_spread, prior_mean, precision)
    else:
        precision = beliefs.precision.expand(len(numbers))
        found = posterior(known, beliefs.user_spread, prior_mean, precision)
        for _ in range(SWEEPS - 1):
            precision = precision_of(strength, beliefs.precision, users.rows.counts, found.squared_error)
            found = posterior(known, beliefs.user_spread, prior_mean, precision)
    own = _observations(knowledge, users, found, precision, prior_mean, last)
    return PersonalFactors(
        knowledge=knowledge,
        users=numbers,
        posterior=found,
        precision=precision,
        prior_mean=prior_mean,
        observe=lambda: replace(own, times=times),
        newcomer=beliefs.covariate_weights[0] + (node_mean if node_mean.dim() == 1 else 0.0),
    )


def _observations(
    knowledge: SharedKnowledge,
    users: Users,
    found: Posterior,
    precision: Tensor,
    prior_mean: Tensor,
    last: LastSums | None,
) -> Observations:
    beliefs, design, rows = knowledge.beliefs, knowledge.design, users.rows
    user, items, value = own_ratings(rows)
    if last is None:
        mean, covariance = knowledge.items(items)
    else:
        of_last = last.posterior, last.precision, last.was_sent
        mean, covariance = without_own(beliefs, rows, design, *of_last, knowledge.at_node)
    products = factor_products(found, beliefs.rank)[user]
    uncertain = (unpack(covariance, 1 + beliefs.rank) * products).sum((1, 2))
    counts, precision = rows.counts.long(), precision[user]
    noise = noise_weights(design, items, counts) * (knowledge.noise_share / precision + uncertain)
    ratings = knowledge.scale.centre + knowledge.scale.unit * value
    return observed(knowledge, counts, items, ratings, mean, prior_mean[user], noise)
