"""A whole run: the schema of `result.json`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hierfed.exports import Tabular
from hierfed.results.choices import ListChoice, Selection
from hierfed.results.data import DataSummary, MethodWords
from hierfed.results.errors import (
    Baselines,
    Intervals,
    NewUserRecord,
    NodeRecord,
    RoundRecord,
    ThresholdRecord,
    UserSummary,
    Verdict,
)
from hierfed.results.federation import FederationRecord
from hierfed.results.lists import RankingRecord, SampleList
from hierfed.results.privacy import PrivacyRecord
from hierfed.results.record import Number, Record


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


class UpdateRecord(Record):
    """A training that went on over other rows.

    A run that was judged before it went on keeps the figures of the training before; a federation's figures are those
    after it.
    level: `rounds`, `all` or `forget`. rounds: how many there were. users, items, ratings: of the run now; in a
    federation's record users are 0, and ratings too where nodes do not tell.
    new_items: how many of the items came with this update. forgotten: how many users left; 0 in a federation's record,
    whose nodes do not tell. before: sha256 of the global model before.
    seconds: CPU time of the training of the model of ratings; NaN in a federation's record.
    """

    level: str
    rounds: int
    users: int
    items: int
    ratings: int
    new_items: int
    forgotten: int
    before: str
    seconds: Number


class Result(Record, Tabular):
    """All findings of a run, as written to `result.json`; a table of its metrics in notebooks and papers.

    baselines: on the federated users' test rows, to compare with the last round's global_rmse.
    personal_baselines: on the personalisation users' held-out rows, to compare with users.rmse_after.
    ranking: `ndcg@10`, `recall@20` and `hr@10` of the model that recommends. rankers: of all models that make lists.
    samples: lists of made-up people.
    digest: sha256 of the global model. updates: of the run since it was judged, in order; of a federation
    with --update, the one that made it.
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
