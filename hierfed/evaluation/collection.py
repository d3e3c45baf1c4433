"""All findings of a run, collected into its result."""

from __future__ import annotations

from collections.abc import Sequence

from hierfed.data.federation import Node
from hierfed.evaluation.judging import JudgedRows, judge_intervals, judge_users, judged_items
from hierfed.evaluation.ranking import figures_of
from hierfed.evaluation.verdict import give_verdict
from hierfed.federated.contract import SharedModel
from hierfed.methods import Prepared, kind_of
from hierfed.results import (
    Baselines,
    DataSummary,
    NewUserRecord,
    NodeRecord,
    RankingRecord,
    Result,
    RoundRecord,
    Seconds,
    Selection,
)
from hierfed.settings import Settings


def collect(
    settings: Settings,
    prepared: Prepared,
    nodes: Sequence[Node],
    shared: SharedModel,
    *,
    data: DataSummary,
    rounds: list[RoundRecord],
    asked: int,
    judged: Sequence[tuple[NodeRecord, JudgedRows]],
    baselines: tuple[Baselines, Baselines],
    selection: Selection | None,
    new_users: list[NewUserRecord],
    rankers: list[RankingRecord],
    seconds: Seconds,
) -> Result:
    """The result of a run.

    shared: the finished model of ratings. asked: how many rounds the settings ask for. judged: what each
    personalisation node got. baselines: on the test rows, and on the personalisation users' held-out rows.
    """
    method, (on_test, personal) = prepared.method, baselines
    records, rows = [record for record, _ in judged], [each for _, each in judged]
    users = judge_users(rows)
    beside = [(method.beside, personal.local_only)] if method.beside else []
    return Result(
        name=settings.preset,
        preset=settings.preset,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        words=kind_of(settings).words(),
        data=data,
        rounds=rounds,
        ended_early=shared.round < asked,
        nodes=records,
        users=users,
        baselines=on_test,
        personal_baselines=personal,
        selection=selection,
        intervals=judge_intervals(rows),
        new_users=new_users,
        ranking=figures_of(rankers, method.recommends_by),
        rankers=rankers,
        threshold=method.threshold_record(shared, judged_items(rows)),
        privacy=prepared.privacy(nodes, len(rounds)),
        verdict=give_verdict(rounds[-1].global_rmse, on_test, personal, records, users, beside),
        digest=shared.digest(),
        seconds=seconds,
    )
