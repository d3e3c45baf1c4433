"""The findings of a run: the schema of `result.json`, stable for scripts that read it."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hierfed.atomic import write_atomically
from hierfed.exports import Tabular
from hierfed.sealed import SEAL, json_digest

Kept = TypeVar("Kept", bound="Record")
UNDEFINED = float("nan")
"""The one NaN of results: as one object it equals itself inside records, so that equal results are equal."""
Number = Annotated[
    float,
    BeforeValidator(lambda value: UNDEFINED if value is None else value),
    AfterValidator(lambda value: UNDEFINED if isnan(value) else value),
]
"""A figure that may be undefined (no rows): NaN here, null in JSON."""


class Record(BaseModel):
    """An immutable part of a result; unknown fields are errors, so that a misspelt one cannot hide."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class MethodWords(Record):
    """The words of a method, written into each result, so that a report knows no method.

    shared, personal: the models in tables of models; shared_short, personal_short: elsewhere.
    mark: a node's mark in a figure's key. own: what the run's own models are, in a figure's key.
    alone, alone_short: what learns without sending anything, in tables and in sentences.
    names_alone: whether headlines and summaries compare the personal models with it.
    lead: the work of the method, in a sentence; $nodes, $rounds and $personal_nodes stand for the numbers of them.
    lead_names_judged: whether that sentence says which nodes are judged where they took no part in the rounds.
    first: the model that the key numbers begin with.
    loss: what the training loss is. loss_by_epoch: whether each local epoch has one; else each round has.
    captions: in place of the usual ones, by the figure's name.
    """

    shared: str = "Federated, global model"
    personal: str = "Federated, personal models"
    shared_short: str = "Global model"
    personal_short: str = "Personal models"
    mark: str = "personal model"
    own: str = "federated models"
    alone: str = "Each node alone"
    alone_short: str = "each node alone"
    names_alone: bool = False
    lead: str = "$nodes trained one model in $rounds without pooling their ratings"
    lead_names_judged: bool = False
    first: Literal["shared", "personal"] = "personal"
    loss: str = "Squared error on training rows"
    loss_by_epoch: bool = False
    captions: dict[str, str] = Field(default_factory=dict)


class JoinSummary(Record):
    """The join that gave the items their features.

    kept: ratings with metadata. kept_before_deduplication: the same, with those doubled by repeated metadata ids.
    dropped: ratings without metadata. warning: to be read before the join is used.
    """

    name: str
    kept: int
    kept_before_deduplication: int
    dropped: int
    warning: str = ""


class DataSummary(Record):
    """The ratings that the run learned from; rows_in = ratings + the sum of dropped.

    warnings: about the ratings, a line each. scale: the lowest and the highest possible rating; empty where unknown.
    """

    source: str
    ratings: int
    users: int
    items: int
    nodes: int
    rows_in: int
    dropped: dict[str, int]
    join: JoinSummary
    warnings: list[str] = []
    features: list[str]
    missing_features: list[str]
    protocol: str = "two_groups"
    split: dict[str, int]
    scale: list[float] = []


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
    groups: list[IntervalGroup] = []


class NewUserRecord(Record):
    """RMSE on the personalisation users' held-out rows where each user begins with only this many ratings.

    model: of the run's personal models. biases: of user and item biases. network: of a federated network with private
    ridge heads.
    """

    ratings: int
    model: Number
    biases: Number
    network: Number


class SampleList(Record):
    """What a made-up person is recommended who has rated one item, as high as can be.

    loved: the title of that item. titles: the list, the best first. expected: the rating that each is expected to get.
    """

    loved: str
    titles: list[str]
    expected: list[Number]


class RankingRecord(Record):
    """Lists of unseen items from the full catalogue, means over users with a held-out item: NDCG@10, Recall@20, HR@10.

    model: `ease`, `implicit`, `rating` (expected ratings), `popularity`, the baseline, or `blend` of these.
    sampled_ndcg_at_10, sampled_hr_at_10: of lists of the held-out item and 99 sampled ones; NaN but under protocol loo.
    users: whose lists were judged; 0 in results of versions that did not tell.
    """

    model: str
    ndcg_at_10: Number
    recall_at_20: Number
    hr_at_10: Number
    users: int = 0
    sampled_ndcg_at_10: Number = UNDEFINED
    sampled_hr_at_10: Number = UNDEFINED


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


class ReleaseRecord(Record):
    """Gaussian releases of one kind.

    count: how many. sampling: the chance of a unit to be in one. clip_norm: the largest L2 norm that one unit adds.
    noise_multiplier: the noise's standard deviation over this norm.
    """

    name: str
    count: int
    sampling: Number
    clip_norm: Number
    noise_multiplier: Number


class PrivacyRecord(Record):
    """The differential privacy of the shared model.

    unit: what is hidden. epsilon: the budget. epsilon_spent: that of the unit with the least protection.
    accountant: `rdp` or `pld`. warning: to be read before the model is used.
    """

    unit: str
    epsilon: Number
    epsilon_spent: Number
    delta: Number
    mechanism: str
    accountant: str
    releases: list[ReleaseRecord]
    warning: str = ""


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


class Seconds(Record):
    """Wall seconds of each part of a run."""

    data: Number
    select: Number = 0.0
    train: Number
    personalise: Number
    baselines: Number
    rank: Number = 0.0
    report: Number
    total: Number


class RefusedAnswer(Record):
    """An answer that did not enter a sum, and why."""

    node: str
    reason: str


class DeployedRound(Record):
    """One round of a federation.

    round: its number, below 1 in the opening rounds.
    contributors: the nodes in its sum. refused: the answers that are not.
    abandoned: whether the model stayed as it was.
    train_loss: of each local epoch, MSE; empty for methods that tell none.
    bytes_up, bytes_down: of the contributions' and of the model's arrays, over all nodes.
    """

    stage: str
    round: int
    contributors: list[str]
    refused: list[RefusedAnswer]
    abandoned: bool
    train_loss: list[Number]
    bytes_up: int
    bytes_down: int
    seconds: Number


class Gain(Record):
    """Errors on rows that nodes held out, added up over the nodes.

    rmse_before, rmse_after: of the shared and of the personal models. coverage: the share of ratings within the 90%
    intervals; NaN for models without intervals.
    """

    rows: int
    rmse_before: Number
    rmse_after: Number
    coverage: Number


class FederationRecord(Record):
    """The training of a federation of real nodes.

    nodes: their names. rounds: of every stage, in order, abandoned ones too.
    gain: None where no node holds rows out, or tells its errors.
    """

    nodes: list[str]
    rounds: list[DeployedRound]
    gain: Gain | None


class UpdateRecord(Record):
    """A run that went on after it was judged; its figures stay those of the training before.

    level: `rounds`, `all` or `forget`. rounds: how many there were. users, items, ratings: of the run now.
    new_items: how many of the items came with this update. forgotten: how many users left.
    before: sha256 of the global model before. seconds: CPU time of the training of the model of ratings.
    """

    level: str
    rounds: int
    users: int
    items: int
    ratings: int
    new_items: int
    forgotten: int
    before: str
    seconds: float


class Result(Record, Tabular):
    """All findings of a run, as written to `result.json`; a table of its metrics in notebooks and papers.

    baselines: on the federated users' test rows, to compare with the last round's global_rmse.
    personal_baselines: on the personalisation users' held-out rows, to compare with users.rmse_after.
    ranking: `ndcg@10`, `recall@20` and `hr@10` of the model that recommends. rankers: of all models that make lists.
    samples: lists of made-up people.
    digest: sha256 of the global model. updates: of the run since it was judged, in order.
    ended_early: whether training was stopped before the last round that the settings ask for; every figure is then that
    of the finished rounds.
    words: what the method is called. metrics: hierfed.evaluation.metrics.METRICS of this result, by key.
    federation: of real nodes; None for a run in one process. In a federation's result, figures that nodes do not tell
    are NaN or empty, such counts are 0, and rounds holds the finished rounds of the model of ratings.
    sha256: of everything else in the file, as hierfed.sealed has it; empty where it was never written.
    """

    version: int = 1
    name: str
    preset: str
    seed: int
    settings: dict[str, Any]
    words: MethodWords
    data: DataSummary
    rounds: list[RoundRecord]
    ended_early: bool = False
    nodes: list[NodeRecord]
    users: UserSummary
    baselines: Baselines
    personal_baselines: Baselines
    selection: Selection | None = None
    lists: ListChoice | None = None
    intervals: Intervals | None = None
    new_users: list[NewUserRecord] = Field(default_factory=list)
    ranking: dict[str, Number] = Field(default_factory=dict)
    rankers: list[RankingRecord] = Field(default_factory=list)
    samples: list[SampleList] = Field(default_factory=list)
    threshold: ThresholdRecord | None = None
    privacy: PrivacyRecord | None = None
    federation: FederationRecord | None = None
    metrics: dict[str, Number] = Field(default_factory=dict)
    verdict: Verdict
    digest: str
    updates: list[UpdateRecord] = Field(default_factory=list)
    seconds: Seconds
    sha256: str = ""

    @property
    def final_rmse(self) -> float:
        """RMSE of the global model after the last round; of a federation, on the rows that its nodes held out."""
        return self.users.rmse_before if self.federation is not None else self.rounds[-1].global_rmse

    def rows(self) -> list[dict[str, str | float]]:
        """A metric a line; see Tabular."""
        return [{"metric": key, "value": value} for key, value in self.metrics.items()]

    def heading(self) -> str:
        """See Tabular."""
        return f"{self.preset}, seed {self.seed}: {self.data.source}, protocol {self.data.protocol}"


class Spread(Record):
    """A figure over seeds: mean, standard deviation (n - 1), smallest and largest."""

    mean: Number
    sd: Number
    min: Number
    max: Number


class PairedDifference(Record):
    """first - second on the same seeds: mean, standard deviation, and p-value of a paired two-sided t-test.

    p_holm: the same p-value by Holm's correction over all differences that are reported with it.
    """

    first: str
    second: str
    mean: Number
    sd: Number
    p_value: float | None
    p_holm: float | None = None


class Summary(Record, Tabular):
    """Several seeds of one preset, as written to `summary.json`; undefined figures are left out.

    figures: hierfed.evaluation.metrics.METRICS and the baselines, by key. words: what the method is called.
    sha256: see Result.
    """

    version: int = 1
    name: str
    preset: str
    words: MethodWords
    protocol: str = "two_groups"
    seeds: list[int]
    figures: dict[str, Spread]
    differences: list[PairedDifference]
    verdict: list[str] = Field(default_factory=list)
    sha256: str = ""

    def rows(self) -> list[dict[str, str | float]]:
        """A figure a line, over seeds; see Tabular."""
        return [{"metric": key, **figure.model_dump()} for key, figure in self.figures.items()]

    def heading(self) -> str:
        """See Tabular."""
        return f"{self.preset}, seeds {', '.join(map(str, self.seeds))}, protocol {self.protocol}"


def write_record(record: Kept, path: Path) -> Kept:
    """Write a record as indented JSON with its checksum, and give it with that; a reader never sees half of it."""
    found = json.loads(record.model_dump_json())
    record = record.model_copy(update={SEAL: json_digest(found)})
    write_atomically(path, f"{record.model_dump_json(indent=1)}\n".encode())
    return record
