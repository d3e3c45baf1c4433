"""What a run found: the schema of `result.json`, stable for scripts that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """An immutable part of a result; unknown fields are errors, so that a misspelt one cannot hide."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class JoinSummary(Record):
    """Which join gave the items their features, how many ratings it kept, and what to know before using it."""

    name: str
    kept: int
    dropped: int
    warning: str = ""


class DataSummary(Record):
    """What the run learned from; rows_in = ratings + the sum of dropped."""

    source: str
    ratings: int
    users: int
    items: int
    nodes: int
    rows_in: int
    dropped: dict[str, int]
    join: JoinSummary
    features: list[str]
    missing_features: list[str]
    split: dict[str, int]


class Errors(Record):
    """Errors on one set of rows, in stars: over rows, and as the mean over users of each user's RMSE."""

    rmse: float
    mae: float
    user_macro_rmse: float


class RoundRecord(Record):
    """One federated round: training loss per local epoch (MSE, mean over rows), errors of the global model on the
    federated users' test rows, bytes sent by all nodes and received by all nodes, and wall seconds."""

    round: int
    train_loss: list[float]
    global_rmse: float
    global_mae: float
    global_user_macro_rmse: float
    bytes_up: int
    bytes_down: int
    seconds: float


class NodeRecord(Record):
    """One personalisation node: RMSE of the global and of the personal model on its held-out rows (gain = before -
    after) and, apart, on the rows it was tuned on; and how far the first layer's weights moved."""

    node: str
    users: int
    train_rows: int
    test_rows: int
    rmse_before: float
    rmse_after: float
    mae_before: float
    mae_after: float
    user_macro_rmse_before: float
    user_macro_rmse_after: float
    gain: float
    train_gain: float
    weight_change_l2: float


class UserSummary(Record):
    """All personalisation users together; gains holds each user's RMSE before - after, on held-out rows."""

    users: int
    rmse_before: float
    rmse_after: float
    mae_before: float
    mae_after: float
    macro_rmse_before: float
    macro_rmse_after: float
    share_worse: float
    gains: list[float]


class Baselines(Record):
    """RMSE, on one set of test rows, of models that any federated figure must stand beside.

    local_only: the same network, each node trained on its own rows alone. centralised: the same network on pooled rows.
    """

    global_mean: float
    item_mean: float
    user_mean: float
    biases: float
    local_only: float
    centralised: float


class Verdict(Record):
    """What was gained, in figures and in words. p_value: paired two-sided t-test of the gain over nodes (one seed)
    or over seeds; None where it cannot be computed."""

    beats_global_mean: bool
    beats_biases: bool
    personal_beats_biases: bool
    gain_mean: float
    gain_sd: float
    p_value: float | None
    nodes_harmed: int
    users_harmed: int
    words: list[str]


class Seconds(Record):
    """Wall seconds of each part of a run."""

    data: float
    train: float
    personalise: float
    baselines: float
    report: float
    total: float


class Result(Record):
    """Everything one run found, as written to `result.json`.

    baselines: on the federated users' test rows, to compare with the last round's global_rmse. personal_baselines:
    on the personalisation users' held-out rows, to compare with users.rmse_after. digest: sha256 of the global model.
    """

    version: int = 1
    name: str
    preset: str
    seed: int
    settings: dict[str, Any]
    data: DataSummary
    rounds: list[RoundRecord]
    nodes: list[NodeRecord]
    users: UserSummary
    baselines: Baselines
    personal_baselines: Baselines
    verdict: Verdict
    digest: str
    seconds: Seconds

    @property
    def final_rmse(self) -> float:
        """RMSE of the global model after the last round."""
        return self.rounds[-1].global_rmse


class Spread(Record):
    """A figure over seeds: mean, standard deviation (n - 1), smallest and largest."""

    mean: float
    sd: float
    min: float
    max: float


class PairedDifference(Record):
    """first - second on the same seeds: mean, standard deviation, and p-value of a paired two-sided t-test."""

    first: str
    second: str
    mean: float
    sd: float
    p_value: float | None


class Summary(Record):
    """Several seeds of one preset, as written to `summary.json`."""

    version: int = 1
    name: str
    preset: str
    seeds: list[int]
    figures: dict[str, Spread]
    differences: list[PairedDifference]
    verdict: list[str] = Field(default_factory=list)


def write_record(record: Record, path: Path) -> None:
    """Write a record as indented JSON, replacing the file at once, so that a reader never sees half of it."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
