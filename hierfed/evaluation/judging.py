"""The records of a result: the errors of the models in each round and for each node and user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings, concatenated
from hierfed.engines.in_process import FinishedRound
from hierfed.errors import HierfedError
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import JudgedItems, Method
from hierfed.federated.private import ModelsTogether, PersonalModel, UncertainModel
from hierfed.models.intervals import INTERVAL_LEVEL, group_names, group_of, half_width
from hierfed.models.metrics import rating_errors, user_rmse
from hierfed.results import IntervalGroup, Intervals, NodeRecord, RoundRecord, UserSummary

OnJudged = Callable[[int, int], None]
"""Is told, as personalisation nodes are judged, how many have been, and of how many."""


@dataclass(frozen=True)
class JudgedRows:
    """A node's held-out rows: user and item of each, and the errors of the global and of the personal model.

    deviation: the personal model's standard deviation of each rating; NaN where it does not say.
    own: the number of the user's own ratings that the personal model has learned from.
    dated: the error of the personal model where the time of the row is known; NaN where that makes no difference.
    dated_deviation: its standard deviation; NaN likewise.
    """

    user: np.ndarray
    item: np.ndarray
    before: np.ndarray
    after: np.ndarray
    deviation: np.ndarray
    own: np.ndarray
    dated: np.ndarray
    dated_deviation: np.ndarray


def judge_round(finished: FinishedRound, method: Method, test: Ratings) -> RoundRecord:
    """The record of a round, with the shared model judged on `test`.

    Raises HierfedError where the round's model, loss or errors are no finite numbers: further rounds would be lost.
    """
    errors = rating_errors(method.predict(finished.shared, test).numpy(), test.value, test.user)
    losses = method.train_loss(finished.total)
    judged = [errors.rmse] if len(test) else []
    if not (finished.shared.finite and np.isfinite([*judged, *losses]).all()):
        raise HierfedError(f"training diverged in round {finished.number}: {method.remedy}")
    return RoundRecord(
        round=finished.number,
        train_loss=losses,
        global_rmse=errors.rmse,
        global_mae=errors.mae,
        global_user_macro_rmse=errors.user_macro_rmse,
        bytes_up=finished.bytes_up,
        bytes_down=finished.bytes_down,
        ratings=finished.rows * method.local_epochs,
        seconds=finished.seconds,
        simulated_time=finished.clock,
    )


@dataclass(frozen=True)
class Predictions:
    """Predictions of held-out rows, [rows].

    before: of the shared model. after, deviation, dated, dated_deviation: as the errors of JudgedRows, in stars.
    """

    before: np.ndarray
    after: np.ndarray
    deviation: np.ndarray
    dated: np.ndarray
    dated_deviation: np.ndarray

    def between(self, begin: int, end: int) -> Predictions:
        """Those of some rows, as views."""
        return Predictions(**{name: values[begin:end] for name, values in vars(self).items()})


def predictions_of(before: np.ndarray, personal: PersonalModel, rows: Ratings) -> Predictions:
    """The predictions for these rows, without their times and, where that makes a difference, with them besides."""
    after, deviation, dated, dated_deviation = np.full((4, len(before)), np.nan)
    for places, part in personal.parts(rows):
        some = rows.take(places)
        after[places], deviation[places] = _personal(part, some.untimed)
        if part.timed and some.time is not None:
            dated[places], dated_deviation[places] = _personal(part, some)
    return Predictions(before, after, deviation, dated, dated_deviation)


def judge_node(
    method: Method, shared: SharedModel, node: Node, personal: PersonalModel
) -> tuple[NodeRecord, JudgedRows]:
    """The record of a personalisation node, and its held-out rows with both models' errors.

    Models are judged without the times of the rows to predict. Models that use times are judged with them besides.
    """
    found = predictions_of(method.predict(shared, node.test).numpy(), personal, node.test)
    train_gain = _gain_on_tuned_rows(method, shared, node, personal)
    return _recorded(node, found, personal.finite, train_gain, personal.weight_change(shared.arrays))


def _recorded(
    node: Node, found: Predictions, finite: bool, train_gain: float, weight_change: float
) -> tuple[NodeRecord, JudgedRows]:
    """finite: False where the personal model is not. train_gain, weight_change: see NodeRecord."""
    errors_before = rating_errors(found.before, node.test.value, node.test.user)
    errors_after = rating_errors(found.after, node.test.value, node.test.user)
    if not finite or (len(node.test) and not np.isfinite(errors_after.rmse)):
        raise HierfedError(f"personalisation diverged on node {node.name}: lower personalisation.tuning_learning_rate")
    record = NodeRecord(
        node=node.name,
        users=len(np.union1d(node.train.user, node.test.user)),
        train_rows=len(node.train),
        test_rows=len(node.test),
        rmse_before=errors_before.rmse,
        rmse_after=errors_after.rmse,
        mae_before=errors_before.mae,
        mae_after=errors_after.mae,
        user_macro_rmse_before=errors_before.user_macro_rmse,
        user_macro_rmse_after=errors_after.user_macro_rmse,
        gain=errors_before.rmse - errors_after.rmse,
        train_gain=train_gain,
        weight_change_l2=weight_change,
    )
    value = node.test.value
    before, after, dated = (each - value for each in (found.before, found.after, found.dated))
    judged = JudgedRows(
        node.test.user, node.test.item, before, after, found.deviation, _own(node), dated, found.dated_deviation
    )
    return record, judged


def _personal(personal: PersonalModel, rows: Ratings) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and their standard deviations; NaN where the model does not say how sure it is."""
    if not isinstance(personal, UncertainModel):
        return personal.predict(rows).numpy(), np.full(len(rows), np.nan)
    mean, variance = personal.distribution(rows)
    return personal.within(mean).numpy(), variance.sqrt().numpy()


def judge_nodes(
    method: Method,
    shared: SharedModel,
    nodes: Sequence[Node],
    personal: Sequence[PersonalModel],
    on_judged: OnJudged,
) -> list[tuple[NodeRecord, JudgedRows]]:
    """The results of `judge_node` for each of the nodes, in their order; on_judged: see OnJudged."""
    judged: list[tuple[NodeRecord, JudgedRows]] = []
    blocks = (
        personal.blocks if isinstance(personal, ModelsTogether) else [range(at, at + 1) for at in range(len(nodes))]
    )
    for block in blocks:
        if isinstance(personal, ModelsTogether) and len(block) > 1:
            judged += _judge_together(method, shared, nodes, personal, block)
        else:
            judged += [judge_node(method, shared, nodes[place], personal[place]) for place in block]
        on_judged(len(judged), len(nodes))
    return judged


def _judge_together(
    method: Method, shared: SharedModel, nodes: Sequence[Node], personal: ModelsTogether, block: range
) -> list[tuple[NodeRecord, JudgedRows]]:
    """The results of `judge_node` for the nodes at these places, whose rows are predicted together."""
    some = [nodes[place] for place in block]
    lengths = [len(node.test) for node in some]
    ends, test = np.cumsum([0, *lengths]), concatenated([node.test for node in some])
    number = personal.among(np.repeat(np.arange(block.start, block.stop), lengths), test.user)
    own = np.repeat(np.arange(block.start, block.stop), [len(node.train) for node in some])
    own = personal.among(own, np.concatenate([node.train.user for node in some]))
    # A user without ratings is a newcomer of one node, which the block does not know.
    strange = np.add.reduceat(np.append(~np.isin(number, own), False), ends[:-1]) * (np.array(lengths) > 0)
    before = method.predict(shared, test).numpy()
    found = predictions_of(before, personal.together(block), replace(test, user=number))
    return [
        judge_node(method, shared, node, personal[place])
        if unknown
        else _recorded(node, found.between(begin, end), True, float("nan"), float("nan"))
        for place, node, unknown, begin, end in zip(block, some, strange, ends[:-1], ends[1:], strict=True)
    ]


def _gain_on_tuned_rows(method: Method, shared: SharedModel, node: Node, personal: PersonalModel) -> float:
    if personal.interpolates:
        return float("nan")
    predictions = method.predict(shared, node.train).numpy(), personal.predict(node.train).numpy()
    before, after = (rating_errors(each, node.train.value, node.train.user).rmse for each in predictions)
    return before - after


def judge_intervals(judged: Sequence[JudgedRows]) -> Intervals | None:
    """The coverage of central normal intervals on held-out rows; None where the models do not say how sure they are."""
    error = np.concatenate([rows.after for rows in judged])
    deviation = np.concatenate([rows.deviation for rows in judged])
    if not np.isfinite(deviation).any():
        return None
    half = half_width(torch.from_numpy(deviation)).numpy()
    user, own = (np.concatenate([getattr(rows, name) for rows in judged]) for name in ("user", "own"))
    group, within, groups = group_of(torch.from_numpy(own)).numpy(), np.abs(error) <= half, []
    for number, name in enumerate(group_names()):
        here = group == number
        if here.any():
            coverage = float(within[here].mean())
            sums = np.bincount(np.unique(user[here], return_inverse=True)[1], within[here] - coverage)
            groups.append(
                IntervalGroup(
                    own_ratings=name,
                    rows=int(here.sum()),
                    coverage=coverage,
                    standard_error=float(np.sqrt(np.square(sums).sum()) / here.sum()),
                    mean_width=float(2 * half[here].mean()),
                )
            )
    dated, dated_deviation = (
        np.concatenate([getattr(rows, name) for rows in judged]) for name in ("dated", "dated_deviation")
    )
    known = np.isfinite(dated)
    inside = np.abs(dated) <= half_width(torch.from_numpy(dated_deviation)).numpy()
    return Intervals(
        level=INTERVAL_LEVEL,
        coverage=float(within.mean()),
        mean_width=float(2 * half.mean()),
        coverage_at_times=float(inside[known].mean()) if known.any() else float("nan"),
        groups=groups,
    )


def _own(node: Node) -> np.ndarray:
    """The number of train rows of each test row's user."""
    counts = np.bincount(node.train.user, minlength=int(node.test.user.max(initial=0)) + 1)
    found: np.ndarray = counts[node.test.user]
    return found


def judged_items(judged: Sequence[JudgedRows]) -> JudgedItems:
    """The items and errors of the personal models on all held-out rows."""
    item, error = (np.concatenate([getattr(rows, name) for rows in judged]) for name in ("item", "after"))
    return JudgedItems(item, error)


def judge_users(judged: Sequence[JudgedRows]) -> UserSummary:
    """The summary of all users of the nodes."""
    user, before, after, dated = (
        np.concatenate([getattr(rows, name) for rows in judged]) for name in ("user", "before", "after", "dated")
    )
    zero = np.zeros(len(user))
    rows_before, rows_after = rating_errors(before, zero, user), rating_errors(after, zero, user)
    gains = user_rmse(before, user)[1] - user_rmse(after, user)[1]
    return UserSummary(
        users=len(gains),
        rmse_before=rows_before.rmse,
        rmse_after=rows_after.rmse,
        rmse_at_times=_rmse_at_times(after, dated),
        mae_before=rows_before.mae,
        mae_after=rows_after.mae,
        macro_rmse_before=rows_before.user_macro_rmse,
        macro_rmse_after=rows_after.user_macro_rmse,
        share_worse=float((gains < 0).mean()) if len(gains) else float("nan"),
        gains=np.sort(gains).tolist(),
    )


def _rmse_at_times(after: np.ndarray, dated: np.ndarray) -> float:
    """Of all rows, with their times where these make a difference; NaN where they make none for any row."""
    known = np.isfinite(dated)
    return float(np.sqrt(np.mean(np.where(known, dated, after) ** 2))) if known.any() else float("nan")
