"""What a node makes for its own users of a finished model, and how well that serves them; nobody else sees it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hierfed.data.assembly import Source
from hierfed.data.federation import Node
from hierfed.data.own import own_ratings
from hierfed.data.ratings import Ratings
from hierfed.data.sources import read_ratings
from hierfed.deployment.plan import RATING, Plan
from hierfed.deployment.state import NodeState, Origin
from hierfed.errors import HierfedError
from hierfed.evaluation.judging import half_width
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.personal.private import PersonalModel, UncertainModel
from hierfed.storage import save_private

# What nodes add up of the rows that they have learned from, and of held-out rows, one number each.
JUDGED = ("learned", "rows", "squares_before", "squares_after", "within", "intervals")


def read_source(origin: Origin) -> Source:
    """A node's ratings, as they are at their source now."""
    return read_ratings(origin.source, columns=origin.columns or None, test=origin.test or None, query=origin.query)


def judged(plan: Plan, shared: SharedModel, model: PersonalModel, learned: int, test: Ratings) -> Contribution:
    """How many rows were learned from, and sums over held-out rows: their number, squared errors of the shared and of
    the personal model, and how many ratings lie in their 90% intervals, of those that have one."""
    sums = dict.fromkeys(JUDGED, 0.0) | {"learned": learned}
    user, item, value = (torch.from_numpy(column) for column in (test.user, test.item, test.value))
    if len(test):
        before, after = plan.method.predict(shared, test), model.predict(user.long(), item.long())
        sums |= {"rows": len(test), "squares_before": _squares(before, test), "squares_after": _squares(after, test)}
    if len(test) and isinstance(model, UncertainModel):
        mean, variance = model.distribution(user.long(), item.long())
        inside = (mean - value).abs() <= half_width(variance.sqrt())
        sums |= {"within": float(inside.sum()), "intervals": float(len(test))}
    return Contribution({name: torch.tensor([total], dtype=torch.float64) for name, total in sums.items()})


def personalise(state: NodeState) -> int:
    """Fit the models of a node's users, on this node alone, and keep each in a file of its own; gives how many users.

    The users learn from the rows that took part in the federation, and from those that have come since. Raises
    HierfedError where no federation has finished with this node.
    """
    known, shared = state.plan(), state.model(RATING)
    if known is None or shared is None:
        raise HierfedError(
            f"--state {state.folder}: no federation has finished here yet; `hierfed node` takes part in one"
        )
    plan, number = known
    own = own_ratings(read_source(state.origin), plan.catalogue, state.origin.test_share)
    kept = state.recall(plan.training, RATING, shared.round, own.digest)
    node = Node(number, state.name, own.train, own.test)
    (model,) = plan.method.personalise(shared, [node], [kept])
    save_private(state.folder, plan.settings.method, {f"node-{state.name}": model}, own.user_ids)
    return len(np.unique(own.train.user))


def _squares(predicted: Tensor, rows: Ratings) -> float:
    return float((predicted - torch.from_numpy(rows.value).double()).square().sum())
