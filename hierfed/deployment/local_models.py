"""Models that a node fits for its own users to a finished shared model, and their errors; they stay on the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hierfed.data.federation import Node, rows_by_node
from hierfed.data.ratings import Ratings, concatenated
from hierfed.data.reading.own import own_ratings
from hierfed.deployment.plan import Plan
from hierfed.deployment.sources import own_source
from hierfed.deployment.state import NodeState
from hierfed.errors import HierfedError
from hierfed.federated.checks import Check, counts, not_negative, within
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.private import PersonalModel, UncertainModel
from hierfed.federated.remembered import of_method
from hierfed.federated.stage import RATING
from hierfed.models.intervals import half_width
from hierfed.models.threads import one_torch_thread
from hierfed.runs.models import RANKING, KeptModel, save_model, save_ranking
from hierfed.runs.private_files import INDEX, PRIVATE, save_private
from hierfed.runs.served_pair import replace_pair

# No prediction is further off than so many times the range of ratings.
MOST_RANGES = 100.0
# Names of the sums over nodes, one number each: the rows that they learned from, and sums over held-out rows.
JUDGED = ("learned", "rows", "squares_before", "squares_after", "within", "intervals")


def judged_checks(limits: tuple[float, float]) -> Sequence[Check]:
    """Checks of these sums; see hierfed.federated.checks.

    limits: the lowest and the highest possible rating.
    """
    largest = (MOST_RANGES * (limits[1] - limits[0])) ** 2
    squares = ("squares_before", "squares_after")
    return (
        counts("learned", "rows", "within", "intervals"),
        within("within", lambda sent: sent["intervals"]),
        within("intervals", lambda sent: sent["rows"]),
        not_negative(*squares),
        *(within(name, lambda sent: largest * sent["rows"], largest) for name in squares),
    )


def judged(plan: Plan, shared: SharedModel, model: PersonalModel, learned: int, test: Ratings) -> Contribution:
    """Sums over a node's held-out rows, and the number of rows that it learned from.

    The sums: the number of rows, the squared errors of the shared and of the personal model, and the number of ratings
    inside their 90% intervals, of those that have one. Times of these rows are not used.
    """
    sums = dict.fromkeys(JUDGED, 0.0) | {"learned": learned}
    test = test.untimed
    if len(test):
        before, after = plan.method.predict(shared, test), model.predict(test)
        sums |= {"rows": len(test), "squares_before": _squares(before, test), "squares_after": _squares(after, test)}
    if len(test) and isinstance(model, UncertainModel):
        mean, variance = model.distribution(test)
        inside = (mean - torch.from_numpy(test.value)).abs() <= half_width(variance.sqrt())
        sums |= {"within": float(inside.sum()), "intervals": float(len(test))}
    return Contribution({name: torch.tensor([total], dtype=torch.float64) for name, total in sums.items()})


def kept_model(plan: Plan, shared: SharedModel) -> KeptModel:
    """The finished model of ratings as a node keeps it."""
    return KeptModel(plan.settings, plan.limits, plan.catalogue, shared, {"digest": shared.digest()})


def keep_finished(state: NodeState, plan: Plan, stage: str, models: Mapping[str, SharedModel]) -> Plan:
    """Keep the model of a stage that is over on the node; gives the plan with it.

    models: of all stages that are over.
    """
    state.keep_model(stage, models[stage])
    plan = plan.after(models)
    if stage == RATING:
        save_model(state.folder, kept_model(plan, models[stage]), plan.method)
    beside = plan.beside
    if RATING in models and all(name in models for name in beside):
        save_ranking(state.folder, {name: models[name] for name in beside})
    return plan


@dataclass(frozen=True)
class Personalised:
    """The models of a node's users.

    folder: holds their files.
    users: the number of users with a model.
    ratings: the number of rows learned from.
    unknown: rows left out, of items that the federation's catalogue does not have.
    """

    folder: Path
    users: int
    ratings: int
    unknown: int


@one_torch_thread()
def personalise(state: NodeState, refit: Literal["users", "none"] = "users") -> Personalised:
    """Fit the models of a node's users, on this node alone, and serve from them and their shared model from now on.

    refit: `users` lets the users learn from their held-out rows too, `none` does not.
    The users learn from the rows of the federation and from those that have come since. Raises HierfedError where no
    federation has finished with this node.
    """
    known, shared = state.plan(), state.model(RATING)
    if known is None or shared is None:
        raise HierfedError(
            f"--state {state.folder}: no federation has finished here yet; `hierfed node` takes part in one"
        )
    plan, number = known
    own = own_ratings(own_source(state, state.origin), plan.catalogue, state.origin.test_share)
    kept = of_method(state.rounds.recall(plan.training, RATING, shared.round, own.digest))
    node = Node(number, state.name, own.train, own.test)
    models: Sequence[PersonalModel] = plan.method.personalise(shared, [node], [kept])
    if refit == "users":
        models = plan.method.refit(shared, [node], [kept], lambda node: node.test, models)
    kind, named = plan.settings.method, {f"node-{state.name}": models[0]}
    seen = Ratings(own.seen[:, 0], own.seen[:, 1], np.zeros(len(own.seen), np.float32))
    besides = concatenated([replace(own.test, time=None), seen])
    held = rows_by_node(besides, besides.user, len(own.user_ids))
    beside = plan.beside
    ranking = {stage: found for stage in beside if (found := state.model(stage)) is not None}

    def fill(place: Path) -> None:
        if len(ranking) == len(beside):
            save_ranking(place, ranking)
        save_private(place, kind, named, own.user_ids, held, own.seen_alone)
        save_model(place, kept_model(plan, shared), plan.method, (RANKING, INDEX))

    learned = own.train if refit == "none" else concatenated([own.train, own.test])
    pair = replace_pair(state.folder, fill)
    return Personalised(pair / PRIVATE, len(np.unique(learned.user)), len(learned), own.unknown)


def _squares(predicted: Tensor, rows: Ratings) -> float:
    return float((predicted - torch.from_numpy(rows.value).double()).square().sum())
