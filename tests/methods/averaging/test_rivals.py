"""Networks without a federation, trained again by the reference loop, each on its own."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.method import RivalErrors, RivalRows
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.rivals import train_without_federation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation
from tests.reference.loop import train_loop

TRAINING = LocalTraining(epochs=2, batch_size=8, learning_rate=0.01)
ROUNDS = 2


def make_method(features, start_at_mean: bool) -> FederatedAveraging:
    return FederatedAveraging(
        Network(5, (8,)),
        train_stacked,
        features,
        TRAINING,
        NodePersonalisation("none", TRAINING),
        UserPersonalisation("none", 5.0, 10.0),
        start_at_mean,
        seed=2,
    )


def without_federation(
    method: FederatedAveraging,
    nodes: Sequence[Node],
    personal: Sequence[Node],
    train: Ratings,
    test: Ratings,
    rounds: int = ROUNDS,
) -> RivalErrors:
    """The findings of train_without_federation; it sees the rows of personalisation users on their nodes alone."""
    nobody = train.take(np.empty(0, np.int64))
    return train_without_federation(method, RivalRows(nodes, personal, train, test, nobody, nobody, False, rounds))


def squares_of(
    method: FederatedAveraging, trained_on: Node, rows: Ratings, batch_size: int = 8, rounds: int = ROUNDS
) -> np.ndarray:
    """Squared errors on these rows of a federation of this node alone, trained by the reference loop."""
    alone = replace(method, trainer=train_loop, training=replace(method.training, batch_size=batch_size))
    shared = run_rounds(alone, [trained_on], rounds).shared
    rating = method.predictor.predict(shared.arrays["parameters"], method.features).numpy()
    return np.square(rating[rows.item].astype(np.float64) - rows.value)


# The federated nodes hold 14.5 rows each on average; those of 34/3 rows train for 2 * 14.5 / (34/3) = 2.6 rounds
# to make as many steps, those of 60 for 0.5, but at least for one.
@pytest.mark.parametrize(("lengths", "personal_rounds"), [((15, 12, 7), 3), ((60, 50, 70), 1)])
@pytest.mark.parametrize("start_at_mean", [False, True])
def test_training_alone_gives_the_figures_of_separate_runs(
    start_at_mean, lengths, personal_rounds, make_node, make_ratings, features
):
    method = make_method(features, start_at_mean)
    nodes = [make_node(number, rows) for number, rows in enumerate((20, 9))]
    personal = [make_node(number, rows, seed=1, test_rows=6 + number) for number, rows in enumerate(lengths)]
    test = make_ratings(25, seed=9)
    train = Ratings(*(np.concatenate([getattr(n.train, c) for n in nodes]) for c in ("user", "item", "value", "time")))
    found = without_federation(method, nodes, personal, train, test)

    # Two nodes take a step on 8 rows each, so the pooled network takes its steps on 16.
    pooled = Node(0, "pooled", train, test)
    local = np.concatenate([squares_of(method, node, test) for node in nodes])
    own = np.concatenate([squares_of(method, node, node.test, rounds=personal_rounds) for node in personal])
    central = squares_of(method, pooled, test, 16)
    central_own = np.concatenate([squares_of(method, pooled, node.test, 16) for node in personal])
    assert found.local_only == pytest.approx(np.sqrt(local.mean()), abs=1e-5)
    assert found.personal_local_only == pytest.approx(np.sqrt(own.mean()), abs=1e-5)
    assert found.centralised == pytest.approx(np.sqrt(central.mean()), abs=1e-5)
    assert found.personal_centralised == pytest.approx(np.sqrt(central_own.mean()), abs=1e-5)
    figures = (found.local_only, found.personal_local_only, found.centralised, found.personal_centralised)
    assert len({round(figure, 4) for figure in figures}) == 4


def test_in_float64_nodes_alone_are_judged_to_the_eleventh_digit(make_node, make_ratings, features):
    method, nodes = make_method(features.double(), True), [make_node(0, 20, test_rows=3), make_node(1, 9)]
    test = make_ratings(400, seed=9)
    assert len(np.unique(test.item)) < 30
    found = without_federation(method, nodes, nodes, nodes[0].train, test)
    local = np.concatenate([squares_of(method, node, test) for node in nodes])
    assert found.local_only == pytest.approx(np.sqrt(local.mean()), rel=1e-11)


def test_to_judge_many_nodes_alone_takes_the_memory_of_one(make_node, make_ratings, features):
    nodes, test = [make_node(number, 1, test_rows=1) for number in range(300)], make_ratings(10_000, seed=9)
    tracemalloc.start()
    try:
        without_federation(make_method(features, True), nodes, nodes[:1], nodes[0].train, test, 1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < len(nodes) * len(test) * 8 / 4


def test_a_node_without_held_out_rows_does_not_count(make_node, make_ratings, features):
    method = make_method(features, True)
    node, test = make_node(0, 20), make_ratings(10, seed=9)
    with_rows, without = make_node(0, 15, seed=1, test_rows=6), make_node(1, 12, seed=1)
    both = without_federation(method, [node], [with_rows, without], node.train, test)
    one = without_federation(method, [node], [with_rows], node.train, test)
    assert both.personal_local_only == pytest.approx(one.personal_local_only, abs=1e-9)
    assert both.personal_centralised == pytest.approx(one.personal_centralised, abs=1e-9)
