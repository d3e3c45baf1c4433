"""Errors: of rounds, of nodes and users, of baselines, and the verdict on them."""

from __future__ import annotations

from pydantic import Field

from hierfed.results.record import UNDEFINED, Number, Record


class Errors(Record):
    """Errors on one set of rows, in stars: over rows, and as the mean over users of each user's RMSE."""

    rmse: Number
    mae: Number
    user_macro_rmse: Number


class RoundRecord(Record):
    """One federated round.

    train_loss: of each local epoch, MSE, mean over rows.
    global_rmse, global_mae, global_user_macro_rmse: of the global model, on the federated users' test rows.
    bytes_up, bytes_down: sent by all nodes, and to all nodes.
    ratings: learned from, that is the train ratings of the nodes that took part, once for each local epoch; those of
    opening rounds are not counted.
    seconds: wall time; that of opening rounds is in round 1.
    simulated_time: since the training began, of asynchronous rounds; 0 where none is simulated.
    """

    round: int
    train_loss: list[Number]
    global_rmse: Number
    global_mae: Number
    global_user_macro_rmse: Number
    bytes_up: int
    bytes_down: int
    ratings: int = 0
    seconds: Number
    simulated_time: float = 0.0

    @property
    def ratings_per_second(self) -> float:
        """The speed of the round; 0 where there was no round."""
        return self.ratings / self.seconds if self.ratings else 0.0


class NodeRecord(Record):
    """One personalisation node.

    *_before, *_after: errors of the global and of the personal model on its held-out rows. gain: RMSE before - after.
    train_gain: the same on the rows that it was tuned on.
    weight_change_l2: L2 norm of the change of the first layer's weights.
    """

    node: str
    users: int
    train_rows: int
    test_rows: int
    rmse_before: Number
    rmse_after: Number
    mae_before: Number
    mae_after: Number
    user_macro_rmse_before: Number
    user_macro_rmse_after: Number
    gain: Number
    train_gain: Number
    weight_change_l2: Number


class UserSummary(Record):
    """All personalisation users together, on held-out rows.

    rmse_at_times: of the personal models where the time of the row to predict is known; NaN where they use no times.
    gains: each user's RMSE before - after, in ascending order, so that a place tells nothing of a user.
    """

    users: int
    rmse_before: Number
    rmse_after: Number
    rmse_at_times: Number = UNDEFINED
    mae_before: Number
    mae_after: Number
    macro_rmse_before: Number
    macro_rmse_after: Number
    share_worse: Number
    gains: list[Number]


class Baselines(Record):
    """RMSE, on one set of test rows, of models to compare every federated figure with.

    local_only: learned without sending anything. For networks, the same network on each node's rows alone; for the
    hierarchical model the method `local`, each user alone.
    centralised: the same network on pooled rows; not measured for the hierarchical model, which equals that of the
    pooled rows.
    pooled_biases: user and item biases under the method's threshold: items that are never summed share one bias.
    """

    global_mean: Number
    item_mean: Number
    user_mean: Number
    biases: Number
    local_only: Number
    centralised: Number
    pooled_biases: Number = UNDEFINED


class IntervalGroup(Record):
    """Intervals of users with so many own ratings.

    own_ratings: in words. rows: how many were judged. standard_error: of the coverage, clustered by user.
    """

    own_ratings: str
    rows: int
    coverage: Number
    standard_error: Number
    mean_width: Number


class Intervals(Record):
    """The share of held-out ratings that the personal models' intervals of this level hold, and the mean width.

    coverage_at_times: where the time of the row to predict is known; NaN where the models use no times.
    groups: the same by the number of own ratings, for the groups of hierfed.models.intervals that have rows.
    """

    level: Number
    coverage: Number
    mean_width: Number
    coverage_at_times: Number = UNDEFINED
    groups: list[IntervalGroup] = Field(default_factory=list)


class NewUserRecord(Record):
    """RMSE on the personalisation users' held-out rows where each user begins with only this many ratings.

    model: of the run's personal models. biases: of user and item biases. network: of a federated network with private
    ridge heads.
    """

    ratings: int
    model: Number
    biases: Number
    network: Number


class ThresholdRecord(Record):
    """The cost of never summing items with fewer raters than this.

    items, rows: the numbers of such items and of their held-out rows.
    rmse, rmse_others: of the personal models on those rows and on the others.
    share: of such rows among all held-out rows.
    """

    min_raters: int
    items: int
    rows: int
    rmse: Number
    rmse_others: Number
    share: Number = UNDEFINED


class Verdict(Record):
    """The gain, in figures and in words.

    p_value: of a paired two-sided t-test of the gain, over nodes (one seed) or over seeds; None where it is undefined.
    beats_*: None where no baseline was measured.
    """

    beats_global_mean: bool | None
    beats_biases: bool | None
    personal_beats_biases: bool | None
    gain_mean: Number
    gain_sd: Number
    p_value: float | None
    nodes_harmed: int
    users_harmed: int
    words: list[str]
