"""The errors of candidates on the validation rows of some nodes, of which only sums leave them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Nodes
from hierfed.data.ratings import Ratings, concatenated
from hierfed.federated.contract import Contribution
from hierfed.federated.method import Trained
from hierfed.federated.rules import Rule
from hierfed.methods.hierarchical.factor_states import PooledStates
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.personal import PersonalFactors
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.together import FactorsTogether

Models = Sequence[PersonalFactors | PiecewiseFactors] | FactorsTogether
Means = Mapping[int, Tensor]
"""The expected ratings of some rows, by the node's place."""


@dataclass(frozen=True)
class Validators:
    """The nodes that validate.

    nodes: all nodes. asked [validators]: the places of those that validate, ascending. rule: adds up their sums.
    """

    nodes: Nodes
    asked: np.ndarray
    rule: Rule

    def personalise(self, candidate: HierarchicalFactors, trained: Trained, *rows: Mapping[int, Ratings]) -> Models:
        """The models of the nodes that validate.

        rows: only users with any of these need be there; by the node's place. None for all users.
        """
        states = trained.private
        some = states.of_nodes(self.asked) if isinstance(states, PooledStates) else [states[at] for at in self.asked]
        asked = ([each[at].user for each in rows if at in each] for at in self.asked.tolist())
        wanted = [np.concatenate([np.empty(0, np.int32), *users]) for users in asked] if rows else None
        return candidate.personalise(trained.shared, self.nodes.take(self.asked), some, wanted=wanted)

    def predicted(self, models: Models, rows: Mapping[int, Ratings]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The place of each node with rows, and the means and the variances of these rows; rows: by place."""
        return _predicted(models, {int(np.searchsorted(self.asked, at)): each for at, each in rows.items()}, self.asked)

    def rmse(self, models: Models, rows: Mapping[int, Ratings]) -> float:
        """RMSE of these rows; rows: by the node's place."""
        return self.rmse_of(self.means(models, rows), rows)

    def means(self, models: Models, rows: Mapping[int, Ratings]) -> Means:
        """The expected ratings of these rows, on the scale, by the node's place; rows: likewise."""
        return {place: models[0].within(mean) for place, mean, _ in self.predicted(models, rows)}

    def rmse_of(self, means: Means, rows: Mapping[int, Ratings]) -> float:
        """RMSE of these means."""
        sums = self.rule((place, _errors(mean, rows[place])) for place, mean in means.items()).total.arrays
        return math.sqrt(float(sums["squares"] / sums["rows"].clamp_min(1)))

    def gains(self, before: Means, after: Means, rows: Mapping[int, Ratings]) -> bool:
        """True if the later means' gain is more than its standard error, with the users' own gains as a sample."""
        sums = self.rule((place, _gain(first, after[place], rows[place])) for place, first in before.items())
        return bool(sums.total.arrays["gain"] > sums.total.arrays["squares"].sqrt())


def _predicted(
    models: Models, rows: Mapping[int, Ratings], numbers: np.ndarray
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The number of each model with rows, and the means and the variances of these rows.

    rows: by the place of the model, ascending. numbers: of the models.
    """
    if not isinstance(models, FactorsTogether):
        yield from ((int(numbers[place]), *models[place].distribution(mine)) for place, mine in rows.items())
        return
    for block in models.blocks:
        here = {place: rows[place] for place in block if place in rows}
        if len(block) == 1:
            yield from ((int(numbers[place]), *models[place].distribution(mine)) for place, mine in here.items())
        elif here:
            lengths = [len(mine) for mine in here.values()]
            together = concatenated(list(here.values()))
            user = models.among(np.repeat(np.array(list(here)), lengths), together.user)
            mean, variance = models.together(block).distribution(replace(together, user=user))
            yield from zip(
                numbers[list(here)].tolist(), torch.split(mean, lengths), torch.split(variance, lengths), strict=True
            )


def _gain(first: Tensor, then: Tensor, rows: Ratings) -> Contribution:
    """The sum, and the sum of squares, of a node's users' gains in the sum of squared errors.

    first, then: the predictions before and after.
    """
    before, after = (predicted.numpy() - rows.value for predicted in (first, then))
    gains = np.bincount(np.unique(rows.user, return_inverse=True)[1], before**2 - after**2)
    both = {"gain": gains.sum(), "squares": np.square(gains).sum()}
    return Contribution({name: torch.tensor([value], dtype=torch.float64) for name, value in both.items()})


def _errors(predicted: Tensor, rows: Ratings) -> Contribution:
    """A node's sum of squared errors, and number of rows."""
    error = predicted - torch.from_numpy(rows.value).double()
    return Contribution({"squares": error.square().sum().reshape(1), "rows": error.new_tensor([len(error)])})
