"""What a run is compared with: baselines on the same rows, and new users' first ratings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset
from hierfed.data.splits import Split
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.baselines import Begin, TrainedAlone, local_rmse, simple_baselines, train_alone
from hierfed.evaluation.new_users import TrainedMethod, new_user_curve
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.factors import HierarchicalFactors
from hierfed.federated.features import features_of
from hierfed.federated.local import LocalOnly
from hierfed.methods import AnyMethod, Prepared, make_averaging
from hierfed.privacy.private_prior import PrivatePrior
from hierfed.randomness import generator
from hierfed.results import Baselines, DataSummary, JoinSummary, NewUserRecord
from hierfed.settings import Settings, load_settings


def begin_baselines(
    settings: Settings,
    dataset: Dataset,
    split: Split,
    method: AnyMethod,
    nodes: Sequence[Node],
    personal_nodes: Sequence[Node],
    begin: Begin,
) -> Callable[[int], tuple[Baselines, Baselines]]:
    """Begin what may be trained elsewhere meanwhile; the function given waits for it and computes the rest.

    Baselines on the test rows, and on the personal test rows, where means and biases may use the tuning rows too. The
    function is told how many rounds the federation trained: where these are fewer than the settings', networks are
    trained anew, no longer than that.
    """
    ratings = dataset.ratings
    train, test = ratings.take(split.train), ratings.take(split.test)
    known, held_out = ratings.take(np.union1d(split.train, split.personal_train)), ratings.take(split.personal_test)

    def not_trained() -> TrainedAlone:
        return TrainedAlone(*(float("nan"),) * 4)

    def each_user_alone(method: HierarchicalFactors | PrivatePrior) -> TrainedAlone:
        model = LocalOnly(method.content, method.limits, method.threads)
        found = local_rmse(model, train, test)
        same = split.personal_train is split.train and split.personal_test is split.test
        personal = found if same else local_rmse(model, ratings.take(split.personal_train), held_out)
        return TrainedAlone(found, personal, float("nan"), float("nan"))

    wait: Callable[[], TrainedAlone] = not_trained
    if isinstance(method, FederatedAveraging):
        wait = train_alone(method, nodes, personal_nodes, train, test, settings.training.rounds, begin)
    elif isinstance(method, HierarchicalFactors | PrivatePrior):
        wait = partial(each_user_alone, method)

    def finish(rounds: int) -> tuple[Baselines, Baselines]:
        if isinstance(method, FederatedAveraging) and rounds < settings.training.rounds:
            alone = train_alone(method, nodes, personal_nodes, train, test, rounds)()
        else:
            alone = wait()
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

    return finish


def run_new_users(
    settings: Settings, dataset: Dataset, split: Split, ours: TrainedMethod, nodes: Sequence[Node]
) -> list[NewUserRecord]:
    """The curve of the personalisation users' first ratings, beside the preset `network` on the same nodes."""
    federated = dataset.ratings.take(split.train)
    rival = load_settings("network", {"seed": settings.seed})
    network = make_averaging(rival, features_of(dataset.catalogue, federated, rival.factors.min_raters))
    return new_user_curve(
        ours,
        TrainedMethod(network, run_rounds(network, nodes, rival.training.rounds).shared),
        federated,
        dataset.ratings.take(split.personal_train),
        dataset.ratings.take(split.personal_test),
        users=dataset.users,
        items=dataset.items,
        rng=generator(settings.seed, 0, 0, "first ratings"),
    )


def summarise_data(settings: Settings, dataset: Dataset, split: Split, prepared: Prepared, nodes: int) -> DataSummary:
    """What the run learned from."""
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
        features=list(prepared.features),
        missing_features=list(prepared.missing_features),
        protocol=settings.split.protocol,
        split=split.sizes(),
    )
