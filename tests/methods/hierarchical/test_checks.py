"""Refusals of the hierarchical model's sums: each array beyond what ratings give, by its own check."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.checks import Sent, first_reason
from hierfed.federated.contract import ordered_sum

USERS, ITEMS = 24, 14


@pytest.fixture
def world(make_factors, make_content, divide_users):
    """A method and three nodes; every user has rated half of the items."""
    rng = np.random.default_rng(8)
    item = np.concatenate([np.sort(rng.choice(ITEMS, ITEMS // 2, replace=False)) for _ in range(USERS)])
    user = np.repeat(np.arange(USERS), ITEMS // 2)
    value = np.clip(np.round(2 * (3.2 + rng.normal(0, 0.9, len(user)))) / 2, 0.5, 5)
    rows = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    method = make_factors(make_content(ITEMS), threshold=3)
    return method, divide_users(rows, [place % 3 for place in range(USERS)])


def changed(array: Tensor, factor: float = 1.0, added: float = 0.0, place: int | None = None) -> Tensor:
    found = array.clone()
    part = found.view(-1)[slice(None) if place is None else slice(place, place + 1)]
    part.mul_(factor).add_(added)
    return found


def test_honest_nodes_and_their_sum_pass_in_every_round(world):
    method, nodes = world
    shared, private = method.start(), [None] * len(nodes)
    while shared.round < 3:
        sent, private = zip(*method.contribute(shared, nodes, private), strict=True)
        checks = method.checks(shared)
        total = ordered_sum(list(sent))
        assert [first_reason(checks, Sent(each.arrays)) for each in (*sent, total)] == [""] * 4
        shared = method.combine(shared, total)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("users", {"added": 0.5}, "users are counts"),
        # 50, which is no more than its ratings, and more than all nodes together could have.
        ("users", {"added": 42}, "users are beyond"),
        ("ratings", {"factor": 1000}, "ratings are beyond"),
        ("ratings", {"factor": 0, "added": 1}, "users are beyond"),
        ("precision", {"factor": -1}, "precision are below 0"),
        ("precision", {"factor": 1e4}, "precision are beyond"),
        ("squared_error", {"factor": 1e4}, "squared_error are beyond"),
        ("loss", {"factor": 1.01}, "loss are outside"),
        ("item_precision", {"factor": 1e3, "place": 0}, "of more users than there are"),
        ("covariate_products", {"added": 1, "place": 0}, "of more users than there are"),
        ("item_pull", {"factor": 1e4}, "item_precision and item_pull are no sums of squares"),
        ("covariate_targets", {"factor": 1e4}, "user_moments and covariates are no sums of squares"),
        ("user_moments", {"factor": 1e4}, "user_moments are beyond"),
        ("node_moments", {"factor": 1e6}, "node_moments are outside"),
        ("node_moments", {"factor": -1e6}, "node_moments are outside"),
    ],
)
def test_each_sum_of_a_round_is_bounded_by_its_own_check(name, change, reason, world):
    method, nodes = world
    trained = run_rounds(method, nodes, 1)
    ((honest, _), *_) = method.contribute(trained.shared, nodes, trained.private)
    checks = method.checks(trained.shared)
    lie = {**honest.arrays, name: changed(honest.arrays[name], **change)}
    assert first_reason(checks, Sent(honest.arrays)) == ""
    assert reason in first_reason(checks, Sent(lie))


def test_what_users_know_of_an_item_is_bounded_in_every_entry(world):
    method, nodes = world
    trained = run_rounds(method, nodes, 1)
    ((honest, _), *_) = method.contribute(trained.shared, nodes, trained.private)
    lie = honest.arrays["item_precision"].clone()
    lie[0, -1] = 1e9
    assert "item_precision are beyond" in first_reason(
        method.checks(trained.shared), Sent({**honest.arrays, "item_precision": lie})
    )


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("raters", {"added": 0.5}, "raters are counts"),
        ("raters", {"added": 1000}, "raters are beyond"),
        ("users", {"factor": -1}, "users are counts"),
        ("moments", {"factor": 2, "place": 0}, "moments are outside"),
        ("moments", {"factor": 2, "place": 1}, "moments are outside"),
        ("moments", {"factor": 100, "place": 2}, "moments are outside"),
        ("moments", {"factor": 0.7, "place": 2}, "moments are no sums of squares"),
    ],
)
def test_counts_and_moments_of_ratings_are_those_of_ratings_on_the_scale(name, change, reason, world):
    method, nodes = world
    ((honest, _), *_) = method.contribute(method.start(), nodes, [None] * 3)
    lie = {**honest.arrays, name: changed(honest.arrays[name], **change)}
    assert reason in first_reason(method.checks(method.start()), Sent(lie))


def test_a_pull_on_an_item_that_the_node_says_nobody_rated_is_refused(world):
    method, nodes = world
    trained = run_rounds(method, nodes, 1)
    ((honest, _), *_) = method.contribute(trained.shared, nodes, trained.private)
    precision, pull = (honest.arrays[name].clone() for name in ("item_precision", "item_pull"))
    precision[2] = 0
    lie = {**honest.arrays, "item_precision": precision}
    reason = "item_precision and item_pull are no sums of squares"
    checks = method.checks(trained.shared)
    assert pull[2].any()
    assert reason in first_reason(checks, Sent({**lie, "item_pull": pull}))
    pull[2] = 0
    assert first_reason(checks, Sent({**lie, "item_pull": pull})) == ""
