"""The figures beside a federated one, computed again without the code that computes them together."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.baselines import local_rmse, simple_baselines, train_alone
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.network import Network
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.training import LocalTraining
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.methods.local.local import LocalOnly
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


def squares_of(
    method: FederatedAveraging, trained_on: Node, rows: Ratings, batch_size: int = 8, rounds: int = ROUNDS
) -> np.ndarray:
    """Squared errors on these rows of a federation of this node alone, trained by the reference loop."""
    alone = replace(method, trainer=train_loop, training=replace(method.training, batch_size=batch_size))
    shared = run_rounds(alone, [trained_on], rounds).shared
    rating = method.predictor.predict(shared.arrays["parameters"], method.features).numpy()
    return np.square(rating[rows.item].astype(np.float64) - rows.value)


def test_simple_baselines_are_root_mean_squares_of_hand_made_predictions():
    train = Ratings(np.array([0, 0, 1], np.int32), np.array([0, 1, 0], np.int32), np.array([5, 3, 1], np.float32))
    test = Ratings(np.array([1, 0], np.int32), np.array([1, 0], np.int32), np.array([2, 4], np.float32))
    found = simple_baselines(train, test, users=2, items=2)
    # The mean is 3: user 0's mean residual sum is 2, user 1's is -2; item 0's is 0, item 1's is 0.
    assert found["global_mean"] == pytest.approx(np.sqrt((1 + 1) / 2))
    assert found["item_mean"] == pytest.approx(1.0)
    users = np.array([3 + 2 / 17, 3 - 2 / 16])
    assert found["user_mean"] == pytest.approx(np.sqrt(((users[1] - 2) ** 2 + (users[0] - 4) ** 2) / 2))
    assert list(found) == ["global_mean", "item_mean", "user_mean", "biases"]
    design = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]], float)
    user_0, user_1, item_0, item_1 = np.linalg.solve(
        design.T @ design + np.diag([15.0, 15, 10, 10]), design.T @ np.array([2.0, 0, -2])
    )
    joint = np.sqrt(((3 + user_1 + item_1 - 2) ** 2 + (3 + user_0 + item_0 - 4) ** 2) / 2)
    assert found["biases"] == pytest.approx(joint, abs=1e-9)


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
    found = train_alone(method, nodes, personal, train, test, ROUNDS)

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
    found = train_alone(method, nodes, nodes, nodes[0].train, test, ROUNDS)
    local = np.concatenate([squares_of(method, node, test) for node in nodes])
    assert found.local_only == pytest.approx(np.sqrt(local.mean()), rel=1e-11)


def test_to_judge_many_nodes_alone_takes_the_memory_of_one(make_node, make_ratings, features):
    nodes, test = [make_node(number, 1, test_rows=1) for number in range(300)], make_ratings(10_000, seed=9)
    tracemalloc.start()
    try:
        train_alone(make_method(features, True), nodes, nodes[:1], nodes[0].train, test, 1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < len(nodes) * len(test) * 8 / 4


@pytest.mark.parametrize("piece", [1, 30, 75])
def test_users_alone_are_judged_alike_in_pieces_and_at_once(piece, make_content, make_ratings, monkeypatch):
    local, train, test = LocalOnly(make_content(23), (0.5, 5.0)), make_ratings(150), make_ratings(60, seed=4)
    train = train.take(train.user != 3)
    (model,) = local.personalise(local.start(), [Node(0, "everyone", train, test)], [None])
    user, item = (torch.from_numpy(column).long() for column in (test.user, test.item))
    expected = np.sqrt(np.mean(np.square(model.predict(user, item).numpy() - test.value)))
    sizes = list[int]()

    def noted(local: LocalOnly, shared, nodes, private):
        sizes.append(len(nodes[0].train))
        return personalise(local, shared, nodes, private)

    personalise = LocalOnly.personalise
    monkeypatch.setattr(LocalOnly, "personalise", noted)
    monkeypatch.setattr("hierfed.evaluation.baselines._PIECE", piece)
    assert local_rmse(local, train, test) == pytest.approx(expected, rel=1e-12)
    assert sum(sizes) == len(train)
    assert max(sizes) < piece + np.bincount(train.user).max()


def test_a_node_without_held_out_rows_does_not_count(make_node, make_ratings, features):
    method = make_method(features, True)
    node, test = make_node(0, 20), make_ratings(10, seed=9)
    with_rows, without = make_node(0, 15, seed=1, test_rows=6), make_node(1, 12, seed=1)
    both = train_alone(method, [node], [with_rows, without], node.train, test, ROUNDS)
    one = train_alone(method, [node], [with_rows], node.train, test, ROUNDS)
    assert both.personal_local_only == pytest.approx(one.personal_local_only, abs=1e-9)
    assert both.personal_centralised == pytest.approx(one.personal_centralised, abs=1e-9)
