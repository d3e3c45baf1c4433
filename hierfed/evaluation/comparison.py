"""Comparisons of a run: rivals on the same rows, and new users' first ratings."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np

from hierfed.data.division import Parts
from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset
from hierfed.data.splits import Split
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.evaluation.baselines import simple_baselines
from hierfed.evaluation.new_users import TrainedMethod, new_user_curve
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method, RivalErrors, RivalRows
from hierfed.methods import Case, Prepared, prepare
from hierfed.randomness import generator
from hierfed.results import Baselines, DataSummary, JoinSummary, NewUserRecord
from hierfed.settings import Settings, load_settings

NO_BASELINES = Baselines(**dict.fromkeys(Baselines.model_fields, nan))
"""Where nothing was held out, or nobody sees what was."""

RIVAL = "network"
"""The preset that new users' first ratings are compared with."""


def run_comparisons(
    settings: Settings,
    dataset: Dataset,
    parts: Parts,
    method: Method,
    shared: SharedModel,
    nodes: Sequence[Node],
    personal_nodes: Sequence[Node],
    *,
    with_rivals: bool,
) -> tuple[tuple[Baselines, Baselines], list[NewUserRecord]]:
    """The baselines and the curve of new users; see `run_baselines` and `run_new_users`.

    with_rivals: False to train nothing: the baselines that need no training are then all there is.
    """
    if not len(parts.split.personal_test):
        return (NO_BASELINES, NO_BASELINES), []
    rounds = shared.round if with_rivals else None
    baselines = run_baselines(dataset, parts, method, nodes, personal_nodes, rounds)
    return baselines, run_new_users(settings, dataset, parts, method, shared, nodes) if with_rivals else []


def run_baselines(
    dataset: Dataset,
    parts: Parts,
    method: Method,
    nodes: Sequence[Node],
    personal_nodes: Sequence[Node],
    rounds: int | None,
) -> tuple[Baselines, Baselines]:
    """Baselines on the test rows and on the personal test rows, where means and biases may use the tuning rows too.

    rounds: of the federation; rivals train no longer than that. None to train no rivals.
    """
    train, test, held_out = parts.train, parts.test, parts.personal_test
    alone = RivalErrors()
    if rounds is not None:
        own = parts.personal_train
        alone = method.rivals(RivalRows(nodes, personal_nodes, train, test, own, held_out, parts.same, rounds))
    pooled = np.bincount(train.item, minlength=dataset.items) < method.least_raters
    return (
        Baselines(
            **simple_baselines(train, test, dataset.users, dataset.items, pooled),
            local_only=alone.local_only,
            centralised=alone.centralised,
        ),
        Baselines(
            **simple_baselines(parts.known, held_out, dataset.users, dataset.items, pooled),
            local_only=alone.personal_local_only,
            centralised=alone.personal_centralised,
        ),
    )


def run_new_users(
    settings: Settings, dataset: Dataset, parts: Parts, method: Method, shared: SharedModel, nodes: Sequence[Node]
) -> list[NewUserRecord]:
    """The curve of new users' first ratings under protocol cold, beside the preset RIVAL on the same nodes."""
    if not method.first_ratings_curve or settings.split.protocol != "cold":
        return []
    federated = parts.train
    rival = load_settings(RIVAL, {"seed": settings.seed})
    case = Case(rival, dataset.catalogue, settings.data.limits(dataset.ratings.limits))
    network = prepare(after_earlier_stages(case, nodes)).method
    return new_user_curve(
        TrainedMethod(method, shared),
        TrainedMethod(network, run_rounds(network, nodes, rival.training.rounds).shared),
        federated,
        parts.personal_train,
        parts.personal_test,
        users=dataset.users,
        items=dataset.items,
        rng=generator(settings.seed, 0, 0, "first ratings"),
    )


def summarise_data(settings: Settings, dataset: Dataset, split: Split, prepared: Prepared, nodes: int) -> DataSummary:
    """The summary of the data that the run learned from."""
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
        warnings=list(provenance.warnings),
        scale=list(settings.data.limits(dataset.ratings.limits)),
    )
