"""The experiment, read as the method section of a paper: load, divide, train, personalise, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hierfed.allocation_cache import allocate_cached
from hierfed.comparison import begin_baselines, run_new_users, summarise_data
from hierfed.data.download import Progress
from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset
from hierfed.engines.in_process import FinishedRound, OnShare, Trained, run_rounds, untold
from hierfed.evaluation.baselines import Begin, begin_here
from hierfed.evaluation.judging import (
    OnJudged,
    judge_intervals,
    judge_nodes,
    judge_round,
    judge_threshold,
    judge_users,
)
from hierfed.evaluation.new_users import TrainedMethod
from hierfed.evaluation.verdict import give_verdict
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.factors import HierarchicalFactors
from hierfed.federated.local import LocalOnly
from hierfed.federated.participation import Participation
from hierfed.federated.recording import Recorder, recorded
from hierfed.federated.summation import Summation
from hierfed.methods import AnyMethod, ModuleMaker, fit_features, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.personal.factors import PersonalFactors
from hierfed.personal.pieces import PiecewiseFactors
from hierfed.personal.private import PersonalModel
from hierfed.privacy.private_prior import PrivatePrior
from hierfed.privacy.protection import recorder_of, summation_of
from hierfed.private_randomness import foreseeable_streams
from hierfed.ranked import Ranked, rank
from hierfed.results import Result, RoundRecord, Seconds
from hierfed.selection import select
from hierfed.settings import Settings


class Observer(Protocol):
    """Who watches a run: told of each stage as it begins, and of each round as it ends."""

    def on_stage(self, stage: str) -> None:
        """`data`, `select`, `train`, `personalise`, `baselines`, `rank` or `report` begins; not all occur."""
        ...

    def on_round(self, record: RoundRecord) -> None:
        """A round has ended."""
        ...


@dataclass(frozen=True)
class Outcome:
    """A finished run: its result, the shared model, and (on these nodes alone) the personal models.

    ranked: the ranking models, where there are any. federated_models: of the federated nodes' users, where they are
    others than the personalisation users and have models of their own. recorder: has the ledger, if one is kept.
    """

    settings: Settings
    result: Result
    dataset: Dataset
    method: AnyMethod
    shared: SharedModel
    ranked: Ranked | None
    personal_nodes: Sequence[Node]
    personal_models: Sequence[PersonalModel]
    federated_nodes: Sequence[Node]
    federated_models: Sequence[PersonalModel]
    recorder: Recorder | None = None

    def shared_models(self) -> dict[str, SharedModel]:
        """The shared models by the stage of the training that made them."""
        return {"rating": self.shared} | ({} if self.ranked is None else self.ranked.models)

    def private_models(self) -> dict[str, PersonalModel]:
        """The personal models by the name of their node; those of federated nodes, where these are others, too."""
        named = {
            f"node-{node.name}": model for node, model in zip(self.personal_nodes, self.personal_models, strict=True)
        }
        others = zip(self.federated_nodes, self.federated_models, strict=False)
        return named | {f"federated-{node.name}": model for node, model in others}


def run_experiment(
    settings: Settings,
    *,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
    begin: Begin = begin_here,
    tell: Callable[[str], None] = lambda line: None,
    wanted: Callable[[], bool] = lambda: True,
    on_share: OnShare = untold,
    on_judged: OnJudged = lambda done, nodes: None,
) -> Outcome:
    """Run one seed of an experiment; nothing is written.

    module: makes the network from the number of features, in place of the settings' own; it must not hold buffers.
    torch's generator is seeded for it. progress: told of a download's bytes, done and in all.
    begin: how training without a federation is begun; elsewhere, it goes on beside the federation's. tell: told in a
    line what of large data was taken from the user's cache, or left there. wanted: asked before every round but the
    first whether to train on; where not, the run is finished with the rounds that there are. on_share: see OnShare.
    on_judged: see OnJudged.
    """
    watch, summation = _Stopwatch(observers), summation_of(settings.privacy)
    with one_torch_thread():
        watch.start("data")
        allocation = allocate_cached(settings, progress, tell)
        settings, dataset, split = allocation.settings, allocation.dataset, allocation.split
        ratings, nodes, personal_nodes = dataset.ratings, allocation.nodes, allocation.personal_nodes
        features = fit_features(settings, dataset.catalogue, nodes, summation)
        limits, streams = settings.data.limits(ratings.limits), foreseeable_streams(settings.seed)
        prepared = prepare(settings, dataset.catalogue, limits, features, module, streams)
        method, selection = prepared.method, None

        if isinstance(method, HierarchicalFactors) and settings.selection.select:
            watch.start("select")
            chosen = select(settings, method, nodes, summation, on_share)
            method, selection = chosen.method, chosen.selection

        watch.start("train")
        finish_baselines = begin_baselines(settings, dataset, split, method, nodes, personal_nodes, begin)
        rounds: list[RoundRecord] = []

        def judge(finished: FinishedRound) -> None:
            rounds.append(judge_round(finished, method, ratings.take(split.test)))
            for observer in observers:
                observer.on_round(rounds[-1])

        recorder = recorder_of(settings, dataset.catalogue, nodes, partial(prepared.privacy, nodes))
        trained = _train(method, nodes, settings, judge, summation, recorder, wanted, on_share)
        shared = trained.shared

        watch.start("personalise")
        private = trained.private if personal_nodes is nodes else [None] * len(personal_nodes)
        personal_models = method.personalise(shared, personal_nodes, private)
        judged = judge_nodes(method, shared, personal_nodes, personal_models, on_judged)
        rows = [each for _, each in judged]
        federated_models: Sequence[PersonalModel] = []
        if isinstance(method, HierarchicalFactors) and personal_nodes is not nodes:
            federated_models = method.personalise(shared, nodes, trained.private)

        watch.start("baselines")
        baselines, personal_baselines = finish_baselines(shared.round)
        new_users = []
        if isinstance(method, HierarchicalFactors) and settings.split.protocol == "cold":
            new_users = run_new_users(settings, dataset, split, TrainedMethod(method, shared), nodes)
        ranked = None
        if isinstance(method, HierarchicalFactors) and settings.ranking.rank_items:
            watch.start("rank")
            factors = [model for model in personal_models if isinstance(model, PersonalFactors | PiecewiseFactors)]
            own, held_out = ratings.take(split.personal_train), ratings.take(split.personal_test)
            ranked = rank(
                settings,
                nodes,
                factors,
                method.content,
                shared.arrays["raters"],
                own,
                held_out,
                summation,
                recorder,
                on_share,
            )
        watch.stop()

    records, users = [record for record, _ in judged], judge_users(rows)
    threshold, alone = None, ("each user alone, with nothing sent", personal_baselines.local_only)
    beside = [alone] if isinstance(method, HierarchicalFactors | PrivatePrior) else []
    if isinstance(method, HierarchicalFactors):
        threshold = judge_threshold(rows, shared.arrays["raters"].numpy(), method.threshold)
    result = Result(
        name=settings.preset,
        preset=settings.preset,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        data=summarise_data(settings, dataset, split, prepared, len(nodes)),
        rounds=rounds,
        ended_early=not isinstance(method, LocalOnly) and shared.round < settings.training.rounds,
        nodes=records,
        users=users,
        baselines=baselines,
        personal_baselines=personal_baselines,
        selection=selection,
        intervals=judge_intervals(rows),
        new_users=new_users,
        ranking=ranked.figures if ranked else {},
        rankers=ranked.records if ranked else [],
        threshold=threshold,
        privacy=prepared.privacy(nodes, len(rounds)),
        verdict=give_verdict(rounds[-1].global_rmse, baselines, personal_baselines, records, users, beside),
        digest=shared.digest(),
        seconds=watch.seconds(),
    )
    return Outcome(
        settings,
        result,
        dataset,
        method,
        shared,
        ranked,
        personal_nodes,
        personal_models,
        nodes,
        federated_models,
        recorder,
    )


def _train(
    method: AnyMethod,
    nodes: Sequence[Node],
    settings: Settings,
    judge: Callable[[FinishedRound], None],
    summation: Summation,
    recorder: Recorder | None,
    wanted: Callable[[], bool],
    on_share: OnShare,
) -> Trained:
    """Run the rounds; a method without any is judged once, as it is."""
    if not isinstance(method, LocalOnly):
        participation = Participation(settings.federation.participation, settings.seed)
        return run_rounds(
            recorded(method, "rating", recorder),
            nodes,
            settings.training.rounds,
            judge,
            summation,
            participation,
            wanted,
            on_share,
        )
    shared = method.start()
    judge(FinishedRound(0, shared, Contribution({}), 0, 0, 0, 0.0))
    return Trained(shared, [None] * len(nodes))


class _Stopwatch:
    """Wall seconds by stage, telling the observers as each begins."""

    def __init__(self, observers: Sequence[Observer]):
        self._observers = observers
        self._spent: dict[str, float] = {}
        self._stage = ""
        self._began = 0.0

    def start(self, stage: str) -> None:
        self.stop()
        self._stage, self._began = stage, time.perf_counter()
        for observer in self._observers:
            observer.on_stage(stage)

    def stop(self) -> None:
        if self._stage:
            self._spent[self._stage] = time.perf_counter() - self._began
        self._stage = ""

    def seconds(self) -> Seconds:
        return Seconds(**self._spent, report=0.0, total=sum(self._spent.values()))
