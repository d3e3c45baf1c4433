"""The records of a result: what each round, node and user got from the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import FinishedRound
from hierfed.errors import HierfedError
from hierfed.evaluation.metrics import rating_errors, user_rmse
from hierfed.federated.averaging import FederatedAveraging, PersonalNetwork
from hierfed.federated.contract import SharedModel
from hierfed.models.network import first_layer_change
from hierfed.results import NodeRecord, RoundRecord, UserSummary


@dataclass(frozen=True)
class JudgedRows:
    """A node's held-out rows: the user of each, and the errors of the global and of the personal model."""

    user: np.ndarray
    before: np.ndarray
    after: np.ndarray


def judge_round(finished: FinishedRound, method: FederatedAveraging, test: Ratings) -> RoundRecord:
    """The record of a round, with the shared model judged on `test`; raises HierfedError where it has diverged."""
    errors = rating_errors(method.predict(finished.shared, test).numpy(), test.value, test.user)
    if not np.isfinite(errors.rmse):
        raise HierfedError(f"training diverged in round {finished.number}: lower training.learning_rate")
    return RoundRecord(
        round=finished.number,
        train_loss=method.train_loss(finished.total),
        global_rmse=errors.rmse,
        global_mae=errors.mae,
        global_user_macro_rmse=errors.user_macro_rmse,
        bytes_up=finished.bytes_up,
        bytes_down=finished.bytes_down,
        seconds=finished.seconds,
    )


def judge_node(
    method: FederatedAveraging, shared: SharedModel, node: Node, personal: PersonalNetwork
) -> tuple[NodeRecord, JudgedRows]:
    """The record of a personalisation node, and what it comes from: its held-out rows with both models' errors."""

    def predictions(rows: Ratings) -> tuple[np.ndarray, np.ndarray]:
        user, item = torch.from_numpy(rows.user).long(), torch.from_numpy(rows.item).long()
        return method.predict(shared, rows).numpy(), personal.predict(user, item).numpy()

    before, after = predictions(node.test)
    errors_before = rating_errors(before, node.test.value, node.test.user)
    errors_after = rating_errors(after, node.test.value, node.test.user)
    if len(node.test) and not np.isfinite(errors_after.rmse):
        raise HierfedError(f"personalisation diverged on node {node.name}: lower personalisation.tuning_learning_rate")
    tuned = [rating_errors(rating, node.train.value, node.train.user).rmse for rating in predictions(node.train)]
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
        train_gain=tuned[0] - tuned[1],
        weight_change_l2=first_layer_change(method.predictor, shared.arrays["parameters"], personal.parameters),
    )
    return record, JudgedRows(node.test.user, before - node.test.value, after - node.test.value)


def judge_users(judged: Sequence[JudgedRows]) -> UserSummary:
    """All users of the nodes together."""
    user, before, after = (
        np.concatenate([getattr(rows, name) for rows in judged]) for name in ("user", "before", "after")
    )
    zero = np.zeros(len(user))
    rows_before, rows_after = rating_errors(before, zero, user), rating_errors(after, zero, user)
    gains = user_rmse(before, user)[1] - user_rmse(after, user)[1]
    return UserSummary(
        users=len(gains),
        rmse_before=rows_before.rmse,
        rmse_after=rows_after.rmse,
        mae_before=rows_before.mae,
        mae_after=rows_after.mae,
        macro_rmse_before=rows_before.user_macro_rmse,
        macro_rmse_after=rows_after.user_macro_rmse,
        share_worse=float((gains < 0).mean()),
        gains=np.sort(gains).tolist(),
    )
