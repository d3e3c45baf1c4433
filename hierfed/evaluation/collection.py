"""All findings of a run, collected into its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, isnan, nan

from hierfed.data.federation import Node
from hierfed.evaluation.comparison import NO_BASELINES
from hierfed.evaluation.judging import JudgedRows, judge_intervals, judge_users, judged_items
from hierfed.evaluation.metrics import with_metrics
from hierfed.evaluation.ranking import figures_of
from hierfed.evaluation.verdict import give_verdict, verdict_of_gain, verdict_of_lists
from hierfed.federated.contract import SharedModel
from hierfed.federated.stage import RATING
from hierfed.methods import Prepared, kind_of
from hierfed.models.intervals import INTERVAL_LEVEL
from hierfed.results import (
    Baselines,
    DataSummary,
    DeployedRound,
    FederationRecord,
    Gain,
    Intervals,
    JoinSummary,
    ListChoice,
    NewUserRecord,
    NodeRecord,
    PrivacyRecord,
    RankingRecord,
    Result,
    RoundRecord,
    Seconds,
    Selection,
    UpdateRecord,
    UserSummary,
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
    lists: ListChoice | None,
    new_users: list[NewUserRecord],
    rankers: list[RankingRecord],
    seconds: Seconds,
) -> Result:
    """The result of a run.

    shared: the finished model of ratings. asked: the rounds that the settings ask for.
    judged: of each personalisation node.
    baselines: on the test rows, and on the personalisation users' held-out rows.
    """
    method, (on_test, personal) = prepared.method, baselines
    records, rows = [record for record, _ in judged], [each for _, each in judged]
    users = judge_users(rows)
    rivals = [(method.rival_name, personal.local_only)] if method.rival_name and isfinite(personal.local_only) else []
    privacy = prepared.privacy(nodes, len(rounds))
    epsilon = None if privacy is None else privacy.epsilon_spent
    found = Result(
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
        lists=lists,
        intervals=judge_intervals(rows),
        new_users=new_users,
        ranking=figures_of(rankers, method.recommends_by),
        rankers=rankers,
        threshold=method.threshold_record(shared, judged_items(rows)),
        privacy=privacy,
        verdict=(
            give_verdict(rounds[-1].global_rmse, on_test, personal, records, users, rivals, epsilon)
            if users.users
            else verdict_of_lists(rankers, method.recommends_by)
        ),
        digest=shared.digest(),
        seconds=seconds,
    )
    return with_metrics(found)


def collect_federation(
    name: str,
    settings: Settings,
    *,
    nodes: Sequence[str],
    items: int,
    ratings: int,
    rounds: Sequence[DeployedRound],
    gain: Gain | None,
    privacy: PrivacyRecord | None,
    digest: str,
    seconds: float,
    scale: Sequence[float] = (),
    features: Sequence[str] = (),
    missing_features: Sequence[str] = (),
    updates: Sequence[UpdateRecord] = (),
) -> Result:
    """The result of a federation of real nodes, as far as they tell.

    name: of the run. nodes: their names. items: in the catalogue.
    ratings: learned from, over all nodes; 0 where nodes do not tell.
    rounds: of every stage, from the first on; a server that was started again has the earlier ones in rounds.jsonl.
    gain: on the rows that nodes held out; None where there are none. digest: sha256 of the model of ratings.
    seconds: of the whole training. scale: the lowest and the highest possible rating, as nodes agreed.
    updates: what it is, if it goes on from another training.
    """
    nothing = dict.fromkeys(("mae_before", "mae_after", "macro_rmse_before", "macro_rmse_after", "share_worse"), nan)
    before, after = (nan, nan) if gain is None else (gain.rmse_before, gain.rmse_after)
    found = Result(
        name=name,
        preset=settings.preset,
        seed=settings.seed,
        settings=settings.model_dump(mode="json", exclude={"data"}),
        words=kind_of(settings).words(),
        data=DataSummary(
            source="the nodes' own ratings",
            ratings=ratings,
            users=0,
            items=items,
            nodes=len(nodes),
            rows_in=ratings,
            dropped={},
            join=JoinSummary(name="none", kept=ratings, kept_before_deduplication=ratings, dropped=0),
            features=list(features),
            missing_features=list(missing_features),
            protocol=settings.split.protocol,
            split={},
            scale=list(scale),
        ),
        rounds=list(_finished(rounds)),
        nodes=[],
        users=UserSummary(users=0, rmse_before=before, rmse_after=after, **nothing, gains=[]),
        baselines=NO_BASELINES,
        personal_baselines=NO_BASELINES,
        intervals=_intervals(gain),
        privacy=privacy,
        federation=FederationRecord(nodes=list(nodes), rounds=list(rounds), gain=gain),
        verdict=verdict_of_gain(gain),
        digest=digest,
        updates=list(updates),
        seconds=Seconds(data=nan, train=nan, personalise=nan, baselines=nan, report=nan, total=seconds),
    )
    return with_metrics(found)


def _finished(rounds: Sequence[DeployedRound]) -> Iterator[RoundRecord]:
    """The finished rounds of the model of ratings; each includes the cost of opening and abandoned rounds before it."""
    before: list[DeployedRound] = []
    for each in rounds:
        if each.stage != RATING:
            continue
        before.append(each)
        if each.round > 0 and not each.abandoned:
            yield RoundRecord(
                round=each.round,
                train_loss=each.train_loss,
                global_rmse=nan,
                global_mae=nan,
                global_user_macro_rmse=nan,
                bytes_up=sum(one.bytes_up for one in before),
                bytes_down=sum(one.bytes_down for one in before),
                seconds=sum(one.seconds for one in before),
            )
            before = []


def _intervals(gain: Gain | None) -> Intervals | None:
    if gain is None or isnan(gain.coverage):
        return None
    return Intervals(level=INTERVAL_LEVEL, coverage=gain.coverage, mean_width=nan)
