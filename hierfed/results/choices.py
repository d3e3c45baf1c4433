"""What was chosen on validation rows."""

from __future__ import annotations

from hierfed.results.record import Number, Record


class Trial(Record):
    """One value of a hyperparameter, its RMSE on validation rows, and whether it was chosen."""

    setting: str
    value: Number
    rmse: Number
    chosen: bool


class Selection(Record):
    """Hyperparameters chosen on validation rows, which the nodes set aside from their train rows.

    rows: the number of validation rows. deviation_scale: the factor on standard deviations that makes intervals hold.
    """

    rows: int
    trials: list[Trial]
    deviation_scale: Number


class ListTrial(Record):
    """A penalty that was tried for a part of the lists: its NDCG@10 on validation rows."""

    setting: str
    value: Number
    ndcg_at_10: Number
    chosen: bool


class ListChoice(Record):
    """The choice of the blend that makes the lists, on validation rows of the protocol's own kind.

    users: the number of users whose validation rows chose.
    weights: of each part; a single weight of 1 where the best part makes the lists.
    ndcg_at_10: of the chosen lists. parts: NDCG@10 of each part alone; both on validation rows.
    """

    users: int
    trials: list[ListTrial]
    weights: dict[str, Number]
    ndcg_at_10: Number
    parts: dict[str, Number]
