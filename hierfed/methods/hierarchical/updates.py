"""Users learn again from their ratings as they are now; the shared model stays, and nothing is sent.

Of users on one node the items that they have rated anew learn too, at that node alone: the messages of the new ratings
go on top of what the node knew of these items, as in hierfed.methods.hierarchical.node_items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.methods.hierarchical.cavity import own_ratings, without_own
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.methods.hierarchical.knowledge import SharedKnowledge
from hierfed.methods.hierarchical.node_items import messages_of, of_some, with_messages
from hierfed.methods.hierarchical.observations import observed
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.personalising import personalise_users
from hierfed.methods.hierarchical.users import Users
from hierfed.models.places import places_among


def relearned(
    knowledge: SharedKnowledge,
    cohort: Cohort,
    users: Users,
    strength: float,
    before: Mapping[int, Mapping[str, Tensor]],
    together: bool,
) -> PersonalFactors:
    """The users' models from their ratings as they are now.

    Of ratings that a user had, the items' means stay those in the user's own file, which the own sums are taken out of.
    What items have learned of ratings that are gone stays until further rounds.

    knowledge: the shared model, and items as the node knows them.
    cohort, users: the users' ratings, and the same arranged for the rounds.
    strength: a0, of the prior of the precisions.
    before: the tensors of the users' own files, by their numbers; none of new users.
    together: True for users of one node, whose items learn.
    """
    every = slice(0, len(cohort))
    times = cohort.times_of(every)
    no_node = torch.zeros_like(knowledge.beliefs.covariate_weights[0])
    model = personalise_users(knowledge, torch.from_numpy(cohort.users), users, no_node, strength, None, times)
    means, old = _former_means(cohort, before, 1 + knowledge.beliefs.rank)
    new = ~old
    if together and new.any():
        place = np.repeat(np.arange(len(cohort)), np.diff(cohort.rows))[new.numpy()]
        some, rows = messages_of(knowledge.design, place, cohort.item[new.numpy()], own_ratings(users.rows)[2][new])
        found = of_some(model.posterior, some), model.precision[some]
        at_node = with_messages(knowledge.beliefs, knowledge.design, knowledge.at_node, rows, *found)
        knowledge = knowledge.of_node(at_node)
        means[new], _ = without_own(knowledge.beliefs, rows, knowledge.design, *found, None, at_node)
    else:
        means[new], _ = knowledge.items(model.own.items[new])
    prior_mean = torch.repeat_interleave(model.prior_mean, model.own.counts, 0)
    own = observed(knowledge, model.own.counts, model.own.items, model.own.ratings, means, prior_mean, model.own.noise)
    return replace(model, knowledge=knowledge, observe=lambda: replace(own, times=times))


def ordered(rows: Ratings) -> Ratings:
    """The rows by user and item, as models hold them."""
    return rows.take(np.lexsort((rows.item, rows.user)))


def _former_means(cohort: Cohort, before: Mapping[int, Mapping[str, Tensor]], size: int) -> tuple[Tensor, Tensor]:
    """The items' means in the users' own files [ratings, size], 0 where there is none, and where there is one."""
    means = torch.zeros(len(cohort.item), size, dtype=torch.float64)
    had = torch.zeros(len(cohort.item), dtype=torch.bool)
    for place, user in enumerate(cohort.users.tolist()):
        kept = before.get(user)
        if not kept:
            continue
        rows = slice(int(cohort.rows[place]), int(cohort.rows[place + 1]))
        items, order = kept["items"].sort()
        at, had[rows] = places_among(items, torch.from_numpy(cohort.item[rows]).long())
        means[rows] = torch.where(had[rows, None], kept["item_mean"][order[at]], 0.0)
    return means, had
