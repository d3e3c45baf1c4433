"""The experiment, read as the method section of a paper: load, divide, train, personalise, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from hierfed.data import splits
from hierfed.data.download import Progress
from hierfed.data.features import Features, features_of, genre_flags
from hierfed.data.federation import Node, make_nodes
from hierfed.data.partition import partition
from hierfed.data.ratings import Dataset, Ratings
from hierfed.data.sources import load
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.evaluation.baselines import Begin, TrainedAlone, begin_here, simple_baselines, train_alone
from hierfed.evaluation.judging import judge_node, judge_round, judge_users
from hierfed.evaluation.verdict import give_verdict
from hierfed.federated.averaging import FederatedAveraging, PersonalNetwork
from hierfed.federated.contract import SharedModel
from hierfed.models.loop import train_loop
from hierfed.models.network import ModuleNetwork, Network, Predictor
from hierfed.models.stacked import train_stacked
from hierfed.models.threads import ThreadedTrainer, one_torch_thread
from hierfed.models.training import LocalTraining
from hierfed.personal.node_level import NodePersonalisation
from hierfed.personal.user_level import UserPersonalisation
from hierfed.randomness import generator, stream_keys
from hierfed.results import (
    Baselines,
    DataSummary,
    JoinSummary,
    Result,
    RoundRecord,
    Seconds,
)
from hierfed.settings import Settings

ModuleMaker = Callable[[int], torch.nn.Module]


class Observer(Protocol):
    """Who watches a run: told of each stage as it begins, and of each round as it ends."""

    def on_stage(self, stage: str) -> None:
        """`data`, `train`, `personalise`, `baselines` or `report` begins."""
        ...

    def on_round(self, record: RoundRecord) -> None:
        """A round has ended."""
        ...


@dataclass(frozen=True)
class Outcome:
    """A finished run: its result, the shared model, and (on these nodes alone) the personal models."""

    settings: Settings
    result: Result
    dataset: Dataset
    features: Features
    method: FederatedAveraging
    shared: SharedModel
    personal_nodes: list[Node]
    personal_models: list[PersonalNetwork]


def run_experiment(
    settings: Settings,
    *,
    module: ModuleMaker | None = None,
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
    begin: Begin = begin_here,
) -> Outcome:
    """Run one seed of an experiment; nothing is written.

    module: makes the network from the number of features, in place of the settings' own; it must not hold buffers.
    torch's generator is seeded for it. progress: told of a download's bytes, done and in all.
    begin: how training without a federation is begun; elsewhere, it goes on beside the federation's.
    """
    watch = _Stopwatch(observers)
    with one_torch_thread():
        watch.start("data")
        dataset = load_dataset(settings, progress)
        ratings, split = dataset.ratings, divide(dataset, settings)
        features = features_of(dataset.catalogue, ratings.take(split.train))
        nodes, personal_nodes = assign(dataset, split, settings)

        watch.start("train")
        method = make_method(settings, features, module)
        test = ratings.take(split.test)
        count = settings.training.rounds
        alone = train_alone(method, nodes, personal_nodes, ratings.take(split.train), test, count, begin)
        rounds: list[RoundRecord] = []

        def judge(finished: FinishedRound) -> None:
            rounds.append(judge_round(finished, method, test))
            for observer in observers:
                observer.on_round(rounds[-1])

        shared = run_rounds(method, nodes, count, judge)

        watch.start("personalise")
        personal_models = method.personalise(shared, personal_nodes)
        judged = [judge_node(method, shared, *pair) for pair in zip(personal_nodes, personal_models, strict=True)]

        watch.start("baselines")
        baselines, personal_baselines = _baselines(dataset, split, alone())
        watch.stop()

    records = [record for record, _ in judged]
    users = judge_users([rows for _, rows in judged])
    result = Result(
        name=settings.preset,
        preset=settings.preset,
        seed=settings.seed,
        settings=settings.model_dump(mode="json"),
        data=_data_summary(dataset, split, features, len(nodes)),
        rounds=rounds,
        nodes=records,
        users=users,
        baselines=baselines,
        personal_baselines=personal_baselines,
        verdict=give_verdict(rounds[-1].global_rmse, baselines, personal_baselines, records, users),
        digest=shared.digest(),
        seconds=watch.seconds(),
    )
    return Outcome(settings, result, dataset, features, method, shared, personal_nodes, personal_models)


def load_dataset(settings: Settings, progress: Progress | None = None) -> Dataset:
    """The ratings and the catalogue that the settings name; progress is told of a download's bytes."""
    data = settings.data
    return load(
        data.source,
        join=data.join,
        unmatched=data.unmatched or None,
        columns=data.columns or None,
        test=data.test or None,
        progress=progress,
    )


def divide(dataset: Dataset, settings: Settings) -> splits.Split:
    """The paper's two groups of users; or, where the source names its test rows, those."""
    rng, choice = generator(settings.seed, 0, 0, "split"), settings.split
    if dataset.test_rows is not None:
        return splits.given(dataset.test_rows, sample=choice.sample, rng=rng)
    return splits.two_groups(
        dataset.ratings,
        federated_users=choice.federated_users,
        train_rows=choice.train_rows,
        sample=choice.sample,
        personal_train_rows=choice.personal_train_rows,
        rng=rng,
    )


def assign(dataset: Dataset, split: splits.Split, settings: Settings) -> tuple[list[Node], list[Node]]:
    """The federated nodes, which train the global model, and the personalisation nodes, which make it their own."""
    ratings, federation, personal = dataset.ratings, settings.federation, settings.personalisation

    def divided(train: Ratings, test: Ratings, how: str, count: int, purpose: str) -> list[Node]:
        both = _joined(train, test)
        node = partition(
            how,
            both,
            count,
            skew=federation.skew,
            concentration=federation.concentration,
            genre_flags=lambda: genre_flags(dataset.catalogue)[0],
            rng=generator(settings.seed, 0, 0, purpose),
        )
        return make_nodes(train, node[: len(train)], test, node[len(train) :], count)

    train, nobody = ratings.take(split.train), ratings.take(np.empty(0, np.int64))
    tune, held_out = ratings.take(split.personal_train), ratings.take(split.personal_test)
    return (
        divided(train, nobody, federation.partition, federation.nodes, "partition"),
        divided(tune, held_out, personal.personal_partition, personal.personal_nodes, "personal partition"),
    )


def make_method(settings: Settings, features: Features, module: ModuleMaker | None = None) -> FederatedAveraging:
    """Federated averaging of the settings' network, or of the given module, with its two levels of personalisation."""
    model, training, personal = settings.model, settings.training, settings.personalisation
    inputs = features.matrix.shape[1]
    predictor: Predictor = Network(inputs, model.hidden, model.dropout)
    if module is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream_keys(settings.seed, 0, 0, "module")[0] >> np.uint64(1)))
            predictor = ModuleNetwork(module(inputs))
    return FederatedAveraging(
        predictor=predictor,
        trainer=ThreadedTrainer(train_stacked if training.trainer == "stacked" else train_loop, training.threads),
        features=torch.from_numpy(features.matrix),
        training=LocalTraining(training.local_epochs, training.batch_size, training.learning_rate, training.proximal),
        node_level=NodePersonalisation(
            personal.node_level,
            LocalTraining(
                personal.tuning_epochs,
                personal.tuning_batch_size,
                personal.tuning_learning_rate,
                personal.tuning_proximal,
            ),
            personal.validation,
        ),
        user_level=UserPersonalisation(personal.user_level, personal.bias_shrinkage, personal.head_penalty),
        start_at_mean=model.output_bias == "train_mean",
        seed=settings.seed,
    )


def _baselines(dataset: Dataset, split: splits.Split, alone: TrainedAlone) -> tuple[Baselines, Baselines]:
    """Baselines on the test rows, and on the personal test rows, where means and biases may use the tuning rows too."""
    ratings = dataset.ratings
    train, test = ratings.take(split.train), ratings.take(split.test)
    known, held_out = ratings.take(np.union1d(split.train, split.personal_train)), ratings.take(split.personal_test)
    return (
        Baselines(
            **simple_baselines(train, test, dataset.users, dataset.items),
            local_only=alone.local_only,
            centralised=alone.centralised,
        ),
        Baselines(
            **simple_baselines(known, held_out, dataset.users, dataset.items),
            local_only=alone.personal_local_only,
            centralised=alone.personal_centralised,
        ),
    )


def _data_summary(dataset: Dataset, split: splits.Split, features: Features, nodes: int) -> DataSummary:
    provenance = dataset.provenance
    return DataSummary(
        source=provenance.name,
        ratings=len(dataset.ratings),
        users=dataset.users,
        items=dataset.items,
        nodes=nodes,
        rows_in=provenance.rows_in,
        dropped=provenance.dropped,
        join=JoinSummary(
            name=provenance.join.name,
            kept=provenance.join.kept,
            kept_before_deduplication=provenance.join.kept_before_deduplication,
            dropped=provenance.rows_in - provenance.join.kept,
            warning=provenance.join.warning,
        ),
        features=list(features.names),
        missing_features=list(features.missing),
        split=split.sizes(),
    )


def _joined(first: Ratings, second: Ratings) -> Ratings:
    time = None
    if first.time is not None and second.time is not None:
        time = np.concatenate([first.time, second.time])
    return Ratings(
        np.concatenate([first.user, second.user]),
        np.concatenate([first.item, second.item]),
        np.concatenate([first.value, second.value]),
        time,
    )


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
