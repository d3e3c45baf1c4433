"""Whole runs of the hierarchical and the local model: every protocol, and data that leave little to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hierfed.data import splits
from hierfed.data.division import assign, divide
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError, SettingsError
from hierfed.experiment import Outcome, run_experiment
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.local.local import LocalOnly
from hierfed.randomness import generator
from hierfed.settings import load_settings

PROTOCOLS = ("warm", "temporal", "cold", "given")
METHODS = ("hierarchical", "local")
SMALL: dict[str, Any] = {
    "nodes": 2,
    "personal_nodes": 2,
    "rounds": 4,
    "rank": 2,
    "min_raters": 2,
    "embedding_rank": 3,
    "embedding_rounds": 2,
    "select": False,
    "rank_items": False,
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)
EVERY_PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS)


def table(users: int, items: int, per_user: int, seed: int = 0, constant: bool = False) -> pl.DataFrame:
    """Ratings of users who differ, on items that differ, in half stars; times are in no order."""
    rng = np.random.default_rng([seed, users, items])
    bias, quality = rng.normal(0, 0.6, users), rng.normal(0, 0.6, items)
    rows = []
    for user in range(users):
        for item in rng.choice(items, min(per_user, items), replace=False).tolist():
            stars = 3.3 + bias[user] + quality[item] + rng.normal(0, 0.5)
            rating = 3.0 if constant else float(np.clip(np.round(2 * stars) / 2, 0.5, 5))
            rows.append((user + 1, item + 1, rating, 10**9 + int(rng.integers(10**6))))
    return pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")


def run(rows: pl.DataFrame, folder: Path, method: str, protocol: str, **changes: Any) -> Outcome:
    """A run on this table; under protocol given every fourth row is test."""
    given: dict[str, Any] = {}
    train = rows
    if protocol == "given":
        held = pl.Series(np.arange(len(rows)) % 4 == 3)
        train = rows.filter(~held)
        rows.filter(held).write_csv(folder / "test.csv")
        given = {"test": str(folder / "test.csv")}
    train.write_csv(folder / "ratings.csv")
    chosen = {**SMALL, "data.source": str(folder / "ratings.csv"), "protocol": protocol, **given, **changes}
    return run_experiment(load_settings(method, chosen))


def assert_finite(outcome: Outcome) -> None:
    """Every figure that rows stand behind is a number, and every shared array is finite."""
    result = outcome.result
    assert np.isfinite(result.final_rmse)
    assert np.isfinite([result.users.rmse_before, result.users.rmse_after]).all()
    assert np.isfinite([node.rmse_after for node in result.nodes if node.test_rows]).all()
    assert result.intervals is not None
    assert 0 <= result.intervals.coverage <= 1
    assert np.isfinite(result.intervals.mean_width)
    assert all(torch.isfinite(array).all() for array in outcome.shared.arrays.values())
    for model in outcome.personal_models:
        for tensors in dict(model.tensors()).values():
            assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def pairs(rows: Ratings) -> set[tuple[int, int]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    """20 users with 12 ratings each of 16 items, run by both methods under every protocol."""
    return {
        (method, protocol): run(table(20, 16, 12), tmp_path_factory.mktemp(method + protocol), method, protocol)
        for method in METHODS
        for protocol in PROTOCOLS
    }


@EVERY_METHOD
@EVERY_PROTOCOL
def test_figures_are_finite_and_parts_sum_to_the_whole(outcomes, method: str, protocol: str) -> None:
    outcome = outcomes[method, protocol]
    assert_finite(outcome)
    result = outcome.result
    assert result.data.protocol == protocol
    assert isinstance(outcome.method, HierarchicalFactors if method == "hierarchical" else LocalOnly)
    sizes = result.data.split
    learned = sizes["train"] + (sizes["personal_train"] if protocol == "cold" else 0)
    assert learned + sizes["test"] == result.data.ratings == 240
    assert sizes["test"] == sizes["personal_test"] == sum(node.test_rows for node in result.nodes)
    assert (result.threshold is not None) == (method == "hierarchical")
    assert bool(result.new_users) == (method == "hierarchical" and protocol == "cold")
    assert len(result.rounds) == (4 if method == "hierarchical" else 1)


@EVERY_METHOD
@EVERY_PROTOCOL
def test_the_split_is_that_of_the_protocol(outcomes, method: str, protocol: str) -> None:
    outcome = outcomes[method, protocol]
    ratings = outcome.dataset.ratings
    rng = generator(outcome.settings.seed, 0, 0, "split")
    expected = {
        "warm": lambda: splits.warm(ratings, test_share=0.2, rng=rng),
        "temporal": lambda: splits.temporal(ratings, test_share=0.2),
        "cold": lambda: splits.cold(ratings, federated_users=0.7, test_share=0.3, rng=rng),
        "given": lambda: splits.given(outcome.dataset.test_rows, sample=1.0, rng=rng),
    }[protocol]()
    found = divide(outcome.dataset, outcome.settings)
    for name in ("train", "test", "personal_train", "personal_test", "unused"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    held_out = set.union(*(pairs(node.test) for node in outcome.personal_nodes))
    assert held_out == pairs(ratings.take(expected.personal_test))
    tuned = set.union(*(pairs(node.train) for node in outcome.personal_nodes))
    assert tuned == pairs(ratings.take(expected.personal_train))
    assert not tuned & held_out


@EVERY_PROTOCOL
def test_known_users_stay_on_the_nodes_that_trained_and_new_ones_do_not(outcomes, protocol: str) -> None:
    outcome = outcomes["hierarchical", protocol]
    nodes, personal_nodes = assign(outcome.dataset, divide(outcome.dataset, outcome.settings), outcome.settings)
    trained = {user for node in nodes for user in node.train.user.tolist()}
    personal = {user for node in personal_nodes for user in (*node.train.user, *node.test.user)}
    if protocol == "cold":
        assert personal_nodes is not nodes
        assert not trained & personal
        assert len(trained) == 14
    else:
        assert personal_nodes is nodes
        assert trained == personal == set(range(20))


def test_users_who_took_part_take_their_own_sums_out_again(outcomes) -> None:
    """Under warm a node's state of the last round reaches personalisation; under cold there is none."""
    outcome = outcomes["hierarchical", "warm"]
    method, shared = outcome.method, outcome.shared
    without = method.personalise(shared, outcome.personal_nodes, [None] * 2)
    for used, alone in zip(outcome.personal_models, without, strict=True):
        assert not np.allclose(used.own.vectors, alone.own.vectors, atol=1e-6)
    cold = outcomes["hierarchical", "cold"]
    again = cold.method.personalise(cold.shared, cold.personal_nodes, [None] * 2)
    for used, alone in zip(cold.personal_models, again, strict=True):
        assert used.own.vectors.equal(alone.own.vectors)


def test_under_temporal_each_user_s_newest_ratings_are_test(outcomes) -> None:
    for node in outcomes["hierarchical", "temporal"].personal_nodes:
        for user in np.unique(node.test.user):
            oldest = node.test.time[node.test.user == user].min()
            assert oldest >= node.train.time[node.train.user == user].max()


@pytest.mark.parametrize("protocol", ["warm", "cold"])
def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path, protocol: str) -> None:
    one, same, other = (
        run(table(12, 10, 8), tmp_path, "hierarchical", protocol, seed=seed, rounds=2).result for seed in (0, 0, 1)
    )
    assert one.digest == same.digest
    assert one.users == same.users
    assert [node.model_dump_json() for node in one.nodes] == [node.model_dump_json() for node in same.nodes]
    assert one.digest != other.digest


def test_with_choices_and_lists_on_a_run_is_still_one(tmp_path: Path) -> None:
    """The defaults: hyperparameters chosen on rows inside the train rows, and lists of items."""
    changes: dict[str, Any] = {"select": True, "rank_items": True, "validation_rounds": 2, "threads": 1}
    found = run(table(16, 12, 10), tmp_path, "hierarchical", "warm", **changes)
    assert_finite(found)
    assert found.result.selection is not None
    assert found.result.selection.deviation_scale > 0
    assert found.result.ranking
    lists = found.result.lists
    assert lists is not None
    kept = found.tuned.ranking
    assert {name: getattr(kept, f"{name}_weight") for name in lists.weights} == lists.weights
    assert sum(lists.weights.values()) == pytest.approx(1)
    assert lists.ndcg_at_10 >= max(lists.parts.values())


def test_protocol_given_without_test_rows_is_refused(tmp_path: Path) -> None:
    table(6, 8, 5).write_csv(tmp_path / "ratings.csv")
    changes = {**SMALL, "data.source": str(tmp_path / "ratings.csv"), "protocol": "given"}
    with pytest.raises(SettingsError, match="needs test rows"):
        run_experiment(load_settings("hierarchical", changes))


def test_protocol_temporal_without_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs timestamps"):
        run(table(6, 8, 5).drop("timestamp"), tmp_path, "local", "temporal")


@EVERY_METHOD
@EVERY_PROTOCOL
def test_ratings_that_are_all_the_same_are_predicted(tmp_path: Path, method: str, protocol: str) -> None:
    outcome = run(table(8, 9, 6, constant=True), tmp_path, method, protocol)
    assert_finite(outcome)
    assert outcome.result.users.rmse_after == pytest.approx(0, abs=1e-9), "there is no other rating than 3"


@EVERY_METHOD
@pytest.mark.parametrize("protocol", ["warm", "temporal", "given"])
def test_one_user_alone(tmp_path: Path, method: str, protocol: str) -> None:
    outcome = run(table(1, 12, 10), tmp_path, method, protocol, nodes=1, personal_nodes=1)
    assert_finite(outcome)
    assert outcome.result.users.users == 1


@EVERY_METHOD
def test_one_user_cannot_be_new_to_others(tmp_path: Path, method: str) -> None:
    with pytest.raises(DataError, match="leaves no"):
        run(table(1, 12, 10), tmp_path, method, "cold", nodes=1, personal_nodes=1)


@EVERY_METHOD
def test_one_item_alone(tmp_path: Path, method: str) -> None:
    assert_finite(run(table(12, 1, 1), tmp_path, method, "given"))


@EVERY_METHOD
@pytest.mark.parametrize("protocol", ["warm", "temporal", "cold"])
def test_one_item_leaves_nothing_to_hold_out(tmp_path: Path, method: str, protocol: str) -> None:
    with pytest.raises(DataError, match="leaves no test rows"):
        run(table(12, 1, 1), tmp_path, method, protocol)


@EVERY_PROTOCOL
def test_more_factors_and_columns_than_items(tmp_path: Path, protocol: str) -> None:
    outcome = run(table(9, 5, 5), tmp_path, "hierarchical", protocol, rank=12, embedding_rank=20)
    assert_finite(outcome)
    assert outcome.shared.arrays["item_mean"].shape == (5, 13)
    assert outcome.shared.arrays["embedding"].shape == (5, 20)


@EVERY_PROTOCOL
@pytest.mark.parametrize("embedding_rank", [0, 3])
def test_all_items_under_the_threshold(tmp_path: Path, protocol: str, embedding_rank: int) -> None:
    outcome = run(table(9, 12, 6), tmp_path, "hierarchical", protocol, min_raters=100, embedding_rank=embedding_rank)
    assert_finite(outcome)
    threshold = outcome.result.threshold
    assert threshold is not None
    assert threshold.items == 12
    assert threshold.rows == outcome.result.data.split["personal_test"]
    assert np.isnan(threshold.rmse_others)
    design = outcome.method.design(outcome.shared)
    assert design.shared.sum() == 0


@EVERY_METHOD
@EVERY_PROTOCOL
def test_users_with_one_rating_and_nodes_with_one_user(tmp_path: Path, method: str, protocol: str) -> None:
    rows = table(6, 10, 8)
    lonely = pl.DataFrame([(90, 3, 4.0, 10**9), (91, 10, 0.5, 10**9)], schema=rows.schema, orient="row")
    rows = pl.concat([lonely, rows])
    # Each of 8 users on a node of their own; under cold 6 train and 2 are new.
    nodes = {"nodes": 6 if protocol == "cold" else 8, "personal_nodes": 2 if protocol == "cold" else 8}
    outcome = run(rows, tmp_path, method, protocol, **nodes)
    assert_finite(outcome)
    trained, _ = assign(outcome.dataset, divide(outcome.dataset, outcome.settings), outcome.settings)
    assert all(len(np.unique(node.train.user)) == 1 for node in trained)
    assert min(len(node.train) for node in trained) == 1


@EVERY_METHOD
def test_another_scale_of_ratings_gives_errors_in_that_scale(tmp_path: Path, method: str) -> None:
    """Ratings of 1 to 10 in place of half stars: the same model, with errors twice as large."""
    rows = table(14, 12, 9)
    (tmp_path / "other").mkdir()
    one = run(rows, tmp_path, method, "warm").result
    doubled = rows.with_columns(pl.col("rating") * 2)
    other = run(doubled, tmp_path / "other", method, "warm").result
    assert other.users.rmse_after == pytest.approx(2 * one.users.rmse_after, rel=1e-5)
    assert other.final_rmse == pytest.approx(2 * one.final_rmse, rel=1e-5)
    assert other.intervals.coverage == one.intervals.coverage
    assert other.intervals.mean_width == pytest.approx(2 * one.intervals.mean_width, rel=1e-5)
