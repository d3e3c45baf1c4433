"""Figures of an experiment, computed again by hand from its rows and models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hierfed.data.division import assign
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.methods.averaging.averaging import PersonalNetwork
from hierfed.outcome import Outcome
from tests.small_experiment import (
    ITEMS,
    PER_USER,
    USERS,
    experiment,
    rmse,
    small_ratings,
    split_of,
    stretched,
    write_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("ml"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same ratings as a table without any features or times."""
    path = tmp_path_factory.mktemp("table") / "ratings.csv"
    small_ratings().drop("timestamp").rename({"movieId": "item"}).write_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def outcome(folder: str) -> Outcome:
    """Preset `network` with fine-tuning as well, so that every level has something to do."""
    return experiment(folder, node_level="fine_tuning")


@pytest.fixture(scope="module")
def paper_outcome(table: str) -> Outcome:
    """Preset `paper`, dropout and all, on a table without features."""
    return experiment(table, "paper")


def pairs(rows: Ratings) -> set[tuple[int, int]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))


def global_network(outcome: Outcome, parameters: torch.Tensor, items: np.ndarray) -> np.ndarray:
    """The network's ratings of some items, from its exported tensors by hand: layers of matrix, bias and ReLU."""
    tensors = outcome.method.predictor.named(parameters)
    hidden = outcome.method.features[torch.from_numpy(items).long()].double()
    last = len(tensors) // 2 - 1
    for number in range(last + 1):
        hidden = hidden @ tensors[f"layers.{number}.weight"].double().T + tensors[f"layers.{number}.bias"].double()
        hidden = hidden.relu() if number < last else hidden
    return stretched(outcome, hidden[:, 0].numpy())


def personal_ratings(model: PersonalNetwork, rows: Ratings) -> np.ndarray:
    return model.predict(rows).numpy()


@pytest.mark.parametrize("sample", [1.0, 0.5])
def test_the_parts_of_the_split_sum_to_the_whole(folder: str, sample: float) -> None:
    result = experiment(folder, rounds=1, sample=sample).result
    sizes = result.data.split
    assert sum(sizes.values()) == result.data.ratings == USERS * PER_USER
    assert set(sizes) == {"train", "test", "personal_train", "personal_test", "unused"}
    assert (sizes["unused"] == 0) == (sample == 1.0)


def test_rows_in_are_rows_used_and_dropped(folder: str) -> None:
    data = experiment(folder, rounds=1).result.data
    assert data.rows_in == data.ratings + sum(data.dropped.values()) == USERS * PER_USER
    assert (data.users, data.items, data.nodes) == (USERS, ITEMS, 3)


def test_no_test_row_is_trained_on_and_no_row_is_on_two_nodes(outcome: Outcome) -> None:
    split = split_of(outcome)
    nodes, personal_nodes = assign(outcome.dataset, split, outcome.settings)
    ratings = outcome.dataset.ratings
    trained = [pairs(node.train) for node in (*nodes, *personal_nodes)]
    held = [pairs(ratings.take(split.test)), *(pairs(node.test) for node in personal_nodes)]
    assert all(trained)
    assert sum(map(len, (*trained, *held))) == len(set.union(*trained, *held)) == len(ratings)
    assert [pairs(node.test) for node in outcome.personal_nodes] == held[1:]


def test_personalisation_users_gave_nothing_to_the_global_model(outcome: Outcome) -> None:
    split = split_of(outcome)
    nodes, _ = assign(outcome.dataset, split, outcome.settings)
    federated = {user for node in nodes for user in node.train.user.tolist()}
    personal = {user for node in outcome.personal_nodes for user in (*node.train.user, *node.test.user)}
    assert federated and personal
    assert not federated & personal
    assert len(federated) == 21


def test_a_personalisation_user_s_rows_are_all_on_one_node(outcome: Outcome) -> None:
    users = [{*node.train.user.tolist(), *node.test.user.tolist()} for node in outcome.personal_nodes]
    assert sum(map(len, users)) == len(set.union(*users)) == USERS - 21


def test_round_records_are_those_of_the_global_model_on_the_test_rows(outcome: Outcome) -> None:
    test = outcome.dataset.ratings.take(split_of(outcome).test)
    errors = global_network(outcome, outcome.shared.arrays["parameters"], test.item) - test.value
    last = outcome.result.rounds[-1]
    assert [record.round for record in outcome.result.rounds] == [1, 2]
    assert last.global_rmse == pytest.approx(rmse(errors), abs=1e-6)
    assert last.global_mae == pytest.approx(np.abs(errors).mean(), abs=1e-6)
    per_user = [rmse(errors[test.user == user]) for user in np.unique(test.user)]
    assert last.global_user_macro_rmse == pytest.approx(np.mean(per_user), abs=1e-6)
    assert outcome.result.final_rmse == last.global_rmse


def test_bytes_are_those_of_the_parameters(outcome: Outcome) -> None:
    down = outcome.shared.arrays["parameters"].numel() * 4 * 3
    # Round 1 carries round 0, in which the nodes send their ratings' sum for the output bias.
    assert [record.bytes_down for record in outcome.result.rounds] == [2 * down, down]
    # Up go float64 changes, and each node's rows and losses.
    assert outcome.result.rounds[1].bytes_up == 2 * down + 3 * 8 * (1 + 1)


def test_node_records_are_those_of_the_models(outcome: Outcome) -> None:
    shared = outcome.shared.arrays["parameters"]
    first = outcome.method.predictor.named(shared)["layers.0.weight"].double()
    triples = zip(outcome.result.nodes, outcome.personal_nodes, outcome.personal_models, strict=True)
    for record, node, model in triples:
        test, train = node.test, node.train
        before = global_network(outcome, shared, test.item) - test.value
        after = model.predict(test).numpy() - test.value
        assert record.node == node.name
        assert (record.train_rows, record.test_rows) == (len(train), len(test))
        assert record.users == len({*train.user.tolist(), *test.user.tolist()})
        assert record.rmse_before == pytest.approx(rmse(before), abs=1e-6)
        assert record.rmse_after == pytest.approx(rmse(after), abs=1e-6)
        assert record.mae_before == pytest.approx(np.abs(before).mean(), abs=1e-6)
        assert record.mae_after == pytest.approx(np.abs(after).mean(), abs=1e-6)
        assert record.gain == pytest.approx(rmse(before) - rmse(after), abs=1e-6)
        users = np.unique(test.user)
        macro = [np.mean([rmse(errors[test.user == user]) for user in users]) for errors in (before, after)]
        assert record.user_macro_rmse_before == pytest.approx(macro[0], abs=1e-6)
        assert record.user_macro_rmse_after == pytest.approx(macro[1], abs=1e-6)
        tuned = personal_ratings(model, train)
        untuned = global_network(outcome, shared, train.item)
        assert record.train_gain == pytest.approx(rmse(untuned - train.value) - rmse(tuned - train.value), abs=1e-6)
        change = outcome.method.predictor.named(model.parameters)["layers.0.weight"].double() - first
        assert record.weight_change_l2 == pytest.approx(float(change.square().sum().sqrt()), rel=1e-6)
        assert record.weight_change_l2 > 0


def test_personal_models_are_the_node_s_network_plus_the_user_s_head(outcome: Outcome) -> None:
    """User heads recomputed from the tensors that the node keeps."""
    node, model = outcome.personal_nodes[0], outcome.personal_models[0]
    kept = dict(model.tensors())
    shared, hidden = kept[None], outcome.method.features.double()
    for number in (0, 1):
        hidden = (
            hidden @ shared[f"layers.{number}.weight"].double().T + shared[f"layers.{number}.bias"].double()
        ).relu()
    user, item = (torch.from_numpy(array).long() for array in (node.test.user, node.test.item))
    bias, weights = (
        torch.stack([kept[each][f"user_{part}"] for each in user.tolist()]) for part in ("bias", "weights")
    )
    head = bias[:, 0] + (weights * hidden[item]).sum(1)
    expected = global_network(outcome, model.parameters, node.test.item) + head.numpy()
    np.testing.assert_allclose(model.predict(rows_to_predict(user, item)).numpy(), expected, atol=1e-5)


def test_user_gains_are_each_user_s_rmse_before_minus_after(outcome: Outcome) -> None:
    expected: dict[int, float] = {}
    before_all, after_all = [], []
    for node, model in zip(outcome.personal_nodes, outcome.personal_models, strict=True):
        test = node.test
        before = global_network(outcome, outcome.shared.arrays["parameters"], test.item) - test.value
        after = model.predict(test).numpy() - test.value
        before_all.append(before)
        after_all.append(after)
        for user in np.unique(test.user).tolist():
            mine = test.user == user
            expected[user] = rmse(before[mine]) - rmse(after[mine])
    users = outcome.result.users
    assert sorted(users.gains) == pytest.approx(sorted(expected.values()), abs=1e-6)
    assert users.users == len(expected)
    assert users.share_worse == pytest.approx(np.mean([gain < 0 for gain in expected.values()]))
    assert users.rmse_before == pytest.approx(rmse(np.concatenate(before_all)), abs=1e-6)
    assert users.rmse_after == pytest.approx(rmse(np.concatenate(after_all)), abs=1e-6)
    assert users.macro_rmse_before - users.macro_rmse_after == pytest.approx(np.mean(list(expected.values())), abs=1e-6)


def test_means_are_those_of_the_rows_that_may_be_learned_from(outcome: Outcome) -> None:
    ratings, split = outcome.dataset.ratings, split_of(outcome)
    train, test = ratings.take(split.train), ratings.take(split.test)
    found = outcome.result.baselines
    assert found.global_mean == pytest.approx(rmse(test.value - train.value.mean(dtype=float)), abs=1e-6)
    known = ratings.take(np.concatenate([split.train, split.personal_train]))
    held = ratings.take(split.personal_test)
    personal = outcome.result.personal_baselines
    assert personal.global_mean == pytest.approx(rmse(held.value - known.value.mean(dtype=float)), abs=1e-6)
    assert found.biases < found.global_mean, "the ratings were made from biases"
    measured = {name for name, value in found if np.isfinite(value)}
    assert measured == {"global_mean", "item_mean", "user_mean", "biases", "local_only", "centralised"}
    assert measured == {name for name, value in personal if np.isfinite(value)}


def test_the_verdict_says_what_the_figures_say(outcome: Outcome) -> None:
    result, verdict = outcome.result, outcome.result.verdict
    gains = [node.gain for node in result.nodes]
    assert verdict.gain_mean == pytest.approx(np.mean(gains))
    assert verdict.gain_sd == pytest.approx(np.std(gains, ddof=1))
    assert verdict.nodes_harmed == sum(gain < 0 for gain in gains)
    assert verdict.users_harmed == sum(gain < 0 for gain in result.users.gains)
    assert verdict.beats_global_mean == (result.final_rmse < result.baselines.global_mean)
    assert verdict.beats_biases == (result.final_rmse < result.baselines.biases)


def test_features_are_fitted_on_the_training_rows_only(outcome: Outcome) -> None:
    train = outcome.dataset.ratings.take(split_of(outcome).train)
    seen = outcome.method.features.numpy()[train.item].astype(float)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-5)


def test_the_paper_preset_works_on_a_table_without_features(paper_outcome: Outcome) -> None:
    data = paper_outcome.result.data
    assert data.join.name == "none"
    assert data.features == ["ratings_of_item", "mean_of_item"]
    assert data.missing_features == ["genres", "popularity", "runtime", "vote_average", "vote_count", "revenue"]
    assert np.isfinite(paper_outcome.result.users.rmse_after)
    assert all(node.weight_change_l2 > 0 for node in paper_outcome.result.nodes)


def test_features_of_ratings_do_not_look_at_test_rows(paper_outcome: Outcome) -> None:
    """The rows that are not trained on may say anything: features stay as they are."""
    from hierfed.methods.averaging.feature_fitting import features_of

    ratings = paper_outcome.dataset.ratings
    train = ratings.take(split_of(paper_outcome).train)
    least = paper_outcome.settings.factors.min_raters
    expected = features_of(paper_outcome.dataset.catalogue, train, least, ratings.limits).matrix
    np.testing.assert_array_equal(paper_outcome.method.features.numpy(), expected)
    counts = np.bincount(train.item, minlength=ITEMS)
    counts[counts < least] = 0
    order = np.argsort(counts, kind="stable")
    assert (np.diff(expected[order, 0]) >= 0).all()


def test_embedded_data_use_the_title_join_and_name_what_is_missing() -> None:
    outcome = experiment("embedded", "paper", rounds=1, sample=0.02, tuning_epochs=1, nodes=4, personal_nodes=4)
    data = outcome.result.data
    assert data.ratings == data.rows_in == 100_004
    assert data.join.name == "title"
    assert data.join.warning == ""
    assert data.join.kept + data.join.dropped == data.rows_in
    assert data.join.kept >= 0.82 * data.rows_in
    assert data.missing_features == ["popularity", "revenue"]
    assert {"runtime", "vote_average", "vote_count", "Drama"} <= set(data.features)


def test_given_test_rows_are_the_test_rows(tmp_path: Path) -> None:
    rows = small_ratings()
    held = np.arange(len(rows)) % 5 == 0
    for name, chosen in (("train.csv", ~held), ("test.csv", held)):
        rows.filter(pl.Series(chosen)).write_csv(tmp_path / name)
    outcome = experiment(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    sizes = outcome.result.data.split
    assert sizes == {"train": 336, "test": 84, "personal_train": 336, "personal_test": 84, "unused": 0}
    test = outcome.dataset.ratings.take(split_of(outcome).test)
    users = np.array(outcome.dataset.user_ids)[test.user].tolist()
    items = outcome.dataset.catalogue.frame["item_id"].to_numpy()[test.item].tolist()
    expected = rows.filter(pl.Series(held))
    found = sorted(zip(users, items, test.value.tolist(), strict=True))
    assert found == sorted(zip(expected["userId"], expected["movieId"], expected["rating"], strict=True))
    assert sum(node.test_rows for node in outcome.result.nodes) == 84
    assert outcome.result.users.users == len(set(expected["userId"]))
