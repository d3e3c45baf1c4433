"""A whole experiment: repeatable, the same by every trainer, and with figures that can be recomputed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.ratings import Ratings, rows_to_predict
from hierfed.data.splits import Split
from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.methods.averaging.averaging import PersonalNetwork
from hierfed.observer import Observer
from hierfed.outcome import Outcome
from hierfed.settings import load_settings
from tests.elsewhere import ELSEWHERE, elsewhere
from tests.reference.loop import train_loop

USERS, ITEMS, PER_USER = 30, 40, 14
GENRES = ("Action", "Comedy", "Drama", "Horror")
SMALL: dict[str, Any] = {
    "rounds": 2,
    "nodes": 3,
    "personal_nodes": 3,
    "hidden": [6, 4],
    "local_epochs": 1,
    "batch_size": 16,
    "tuning_epochs": 2,
    "tuning_batch_size": 16,
    "sample": 1.0,
}


def small_ratings() -> pl.DataFrame:
    """420 ratings of 30 users, who differ in taste, on 40 films, which differ in quality."""
    rng = np.random.default_rng(11)
    quality, taste = rng.normal(0, 0.7, ITEMS), rng.normal(0, 0.5, USERS)
    rows = []
    for user in range(USERS):
        for item in rng.choice(ITEMS, PER_USER, replace=False).tolist():
            stars = 3.5 + quality[item] + taste[user] + rng.normal(0, 0.4)
            rating = float(np.clip(np.round(2 * stars) / 2, 0.5, 5))
            rows.append((user + 1, item + 1, rating, 10**9 + int(rng.integers(10**6))))
    return pl.DataFrame(rows, schema=["userId", "movieId", "rating", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The ratings and films as GroupLens publishes them: genres are the only features."""
    place = tmp_path_factory.mktemp("ml")
    small_ratings().write_csv(place / "ratings.csv")
    films = [(item + 1, f"Film {item} ({1950 + item})", GENRES[item % 4]) for item in range(ITEMS)]
    films[5] = (6, "Film 5 (1955)", "Action|Drama")
    pl.DataFrame(films, schema=["movieId", "title", "genres"], orient="row").write_csv(place / "movies.csv")
    return str(place)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same ratings as a table without any features or times."""
    path = tmp_path_factory.mktemp("table") / "ratings.csv"
    small_ratings().drop("timestamp").rename({"movieId": "item"}).write_csv(path)
    return str(path)


def experiment(source: str, preset: str = "network", module: Any = None, **changes: Any) -> Outcome:
    settings = load_settings(preset, {**SMALL, "data.source": source, **changes})
    return run_experiment(settings, module=module)


@pytest.fixture(scope="module")
def outcome(folder: str) -> Outcome:
    """Preset `network` with fine-tuning as well, so that every level has something to do."""
    return experiment(folder, node_level="fine_tuning")


@pytest.fixture(scope="module")
def paper_outcome(table: str) -> Outcome:
    """Preset `paper`, dropout and all, on a table without features."""
    return experiment(table, "paper")


def split_of(outcome: Outcome) -> Split:
    return divide(outcome.dataset, outcome.settings)


def pairs(rows: Ratings) -> set[tuple[int, int]]:
    return set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))


def rmse(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def global_network(outcome: Outcome, parameters: torch.Tensor, items: np.ndarray) -> np.ndarray:
    """The network's ratings of some items, from its exported tensors by hand: layers of matrix, bias and ReLU."""
    tensors = outcome.method.predictor.named(parameters)
    hidden = outcome.method.features[torch.from_numpy(items).long()].double()
    last = len(tensors) // 2 - 1
    for number in range(last + 1):
        hidden = hidden @ tensors[f"layers.{number}.weight"].double().T + tensors[f"layers.{number}.bias"].double()
        hidden = hidden.relu() if number < last else hidden
    return stretched(outcome, hidden[:, 0].numpy())


def stretched(outcome: Outcome, learned: np.ndarray) -> np.ndarray:
    """The model learned from ratings of 0.5 to 5, on the scale of those that occur."""
    value = outcome.dataset.ratings.value.astype(np.float64)
    return value.min() + (learned - 0.5) * (value.max() - value.min()) / 4.5


def personal_ratings(model: PersonalNetwork, rows: Ratings) -> np.ndarray:
    return model.predict(rows).numpy()


def test_the_same_seed_gives_the_same_model_and_figures(folder: str, outcome: Outcome) -> None:
    again = experiment(folder, node_level="fine_tuning")
    assert again.result.digest == outcome.result.digest
    assert torch.equal(again.shared.arrays["parameters"], outcome.shared.arrays["parameters"])
    for one, other in zip(again.personal_models, outcome.personal_models, strict=True):
        kept, same = (dict(model.tensors()) for model in (one, other))
        assert kept.keys() == same.keys()
        for owner, tensors in same.items():
            assert kept[owner].keys() == tensors.keys()
            assert all(torch.equal(kept[owner][name], tensor) for name, tensor in tensors.items())
    same = {"nodes", "users", "baselines", "personal_baselines", "verdict", "data"}
    assert again.result.model_dump(include=same) == outcome.result.model_dump(include=same)


def test_another_seed_gives_another_model_and_split(folder: str, outcome: Outcome) -> None:
    other = experiment(folder, node_level="fine_tuning", seed=1)
    assert other.result.digest != outcome.result.digest
    assert not np.array_equal(split_of(other).train, split_of(outcome).train)


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_threads_do_not_change_a_bit(folder: str, preset: str) -> None:
    one, two = (experiment(folder, preset, threads=threads) for threads in (1, 2))
    assert one.result.digest == two.result.digest
    assert one.result.nodes == two.result.nodes
    assert one.result.baselines == two.result.baselines


def test_whoever_asks_is_told_how_many_nodes_were_judged(folder: str) -> None:
    told: list[tuple[int, int]] = []

    class Noting(Observer):
        def judged(self, done: int, nodes: int) -> None:
            told.append((done, nodes))

    settings = load_settings("network", {**SMALL, "data.source": folder, "rounds": 1, "personal_nodes": 4})
    run_experiment(settings, observers=[Noting()])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_the_stacked_trainer_equals_the_loop(folder: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stacked = experiment(folder, preset).result
    monkeypatch.setattr("hierfed.methods.averaging.build.train_stacked", train_loop)
    loop = experiment(folder, preset).result
    assert stacked.digest != loop.digest, "sums in another order have other last digits"
    for one, other in zip(stacked.rounds, loop.rounds, strict=True):
        assert one.global_rmse == pytest.approx(other.global_rmse, abs=1e-5)
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
    for one, other in zip(stacked.nodes, loop.nodes, strict=True):
        assert one.rmse_after == pytest.approx(other.rmse_after, abs=1e-4)


@pytest.mark.parametrize("preset", ["network", "paper", "hierarchical"])
def test_a_run_on_a_device_has_the_bits_of_a_run_on_the_cpu(folder: str, preset: str, monkeypatch) -> None:
    asked: list[str] = []

    def device_of(name: str) -> torch.device:
        asked.append(name)
        return ELSEWHERE

    changes = {"threads": 1} | ({"select": False} if preset == "hierarchical" else {})
    here = experiment(folder, preset, **changes)
    for method in ("averaging", "hierarchical"):
        monkeypatch.setattr(f"hierfed.methods.{method}.build.device_of", device_of)
    with elsewhere():
        there = experiment(folder, preset, **changes)
    assert asked
    assert there.result.digest == here.result.digest
    found, expected = (repr((each.result.nodes, each.result.baselines)) for each in (there, here))
    assert found == expected


@pytest.mark.parametrize("preset", ["network", "hierarchical"])
def test_a_gpu_that_is_not_there_is_refused(folder: str, preset: str, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"training.device 'cuda': torch finds no GPU .*: set it to 'cpu'"):
        experiment(folder, preset, device="cuda")


def test_torch_s_own_threads_are_left_as_they_were(folder: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        experiment(folder, rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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


@pytest.mark.parametrize("how", ["rows", "users", "sizes", "genre", "time"])
def test_every_partition_runs_and_gives_finite_figures(folder: str, how: str) -> None:
    personal = "users" if how == "rows" else how
    # Nodes of many users each, so that Dirichlet finds a draw without an empty node.
    changes = {"nodes": 2, "personal_nodes": 2, "concentration": 5.0, "skew": 0.5}
    outcome = experiment(folder, partition=how, personal_partition=personal, rounds=1, **changes)
    nodes, personal_nodes = assign(outcome.dataset, split_of(outcome), outcome.settings)
    assert sum(len(node.train) for node in nodes) == outcome.result.data.split["train"]
    assert sum(len(node.test) for node in personal_nodes) == outcome.result.data.split["personal_test"]
    if how != "rows":
        first, second = (set(node.train.user.tolist()) for node in nodes)
        assert not first & second
    assert np.isfinite(outcome.result.final_rmse)
    assert np.isfinite([node.gain for node in outcome.result.nodes if node.test_rows]).all()


@pytest.mark.parametrize("user_level", ["none", "bias", "ridge_head"])
@pytest.mark.parametrize("node_level", ["none", "fine_tuning", "head", "ditto", "bias"])
def test_every_personalisation_runs_and_gives_finite_figures(folder: str, node_level: str, user_level: str) -> None:
    outcome = experiment(folder, node_level=node_level, user_level=user_level, rounds=1)
    result, shared = outcome.result, outcome.shared.arrays["parameters"]
    assert np.isfinite([node.rmse_after for node in result.nodes]).all()
    moves_first_layer = node_level in ("fine_tuning", "ditto")
    assert all((node.weight_change_l2 > 0) == moves_first_layer for node in result.nodes)
    for model in outcome.personal_models:
        assert torch.equal(model.parameters, shared) == (node_level == "none")
        assert (model.heads is None) == (user_level == "none")
    if node_level == user_level == "none":
        assert all(node.gain == 0 for node in result.nodes)
        assert set(result.users.gains) == {0.0}
    else:
        assert result.users.rmse_after != result.users.rmse_before


def test_early_stopping_never_does_worse_than_the_global_model_on_its_validation_rows(folder: str) -> None:
    """A learning rate that ruins everything: the global model, as epoch 0, must be kept."""
    changes: dict[str, Any] = {"node_level": "fine_tuning", "user_level": "none", "tuning_learning_rate": 50.0}
    kept = experiment(folder, validation=0.3, **changes).result
    ruined = experiment(folder, **changes).result
    assert kept.users.rmse_after < ruined.users.rmse_after
    assert [node.gain for node in kept.nodes] == [0.0] * 3


def make_module(features: int) -> torch.nn.Module:
    torch.manual_seed(3)
    layers = [torch.nn.Linear(features, 5), torch.nn.Tanh(), torch.nn.LayerNorm(5), torch.nn.Linear(5, 1)]
    return torch.nn.Sequential(*layers)


def test_a_module_of_one_s_own_is_trained_alike_by_vmap_and_by_the_loop(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacked = experiment(folder, module=make_module, node_level="fine_tuning")
    monkeypatch.setattr("hierfed.methods.averaging.build.train_stacked", train_loop)
    loop = experiment(folder, module=make_module, node_level="fine_tuning")
    for one, other in zip(stacked.result.rounds, loop.result.rounds, strict=True):
        assert one.global_rmse == pytest.approx(other.global_rmse, abs=1e-5)
    assert stacked.result.users.rmse_after == pytest.approx(loop.result.users.rmse_after, abs=1e-4)
    features = len(stacked.result.data.features)
    assert stacked.shared.arrays["parameters"].shape == (features * 5 + 5 + 10 + 6,)


def test_a_module_s_rating_is_its_own(folder: str) -> None:
    outcome = experiment(folder, module=make_module, rounds=1)
    module = make_module(len(outcome.result.data.features))
    torch.nn.utils.vector_to_parameters(outcome.shared.arrays["parameters"], module.parameters())
    test = outcome.dataset.ratings.take(split_of(outcome).test)
    with torch.no_grad():
        expected = stretched(outcome, module(outcome.method.features).double()[:, 0].numpy()[test.item])
    assert outcome.result.final_rmse == pytest.approx(rmse(expected - test.value), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda features: torch.nn.Sequential(torch.nn.BatchNorm1d(features), torch.nn.Linear(features, 1)), "batch"),
        (lambda features: torch.nn.Sequential(torch.nn.Linear(features, 1), torch.nn.PReLU()), "Linear"),
        (lambda features: torch.nn.Linear(features, 1, bias=False), "bias"),
    ],
)
def test_a_module_that_cannot_be_averaged_or_has_no_head_is_refused(folder: str, make: Any, message: str) -> None:
    with pytest.raises((HierfedError, ValueError), match=message):
        experiment(folder, module=make)


def test_observers_are_told_of_every_stage_and_round_in_order(folder: str) -> None:
    told: list[Any] = []

    class Noting(Observer):
        def stage(self, name: str) -> None:
            told.append(name)

        def round(self, record: Any) -> None:
            told.append(record)

    settings = load_settings("network", {**SMALL, "data.source": folder})
    result = run_experiment(settings, observers=[Noting()]).result
    assert told == ["data", "train", *result.rounds, "personalise", "baselines"]


class Stopping(Observer):
    """An observer that ends the training after so many rounds, and notes shares."""

    def __init__(self, rounds: int):
        self.rounds, self.ended, self.shares = rounds, 0, list[tuple[int, float]]()

    def share(self, number: int, share: float) -> None:
        self.shares.append((number, share))

    def round(self, record: Any) -> None:
        self.ended = record.round

    def should_continue(self) -> bool:
        return self.ended < self.rounds


@pytest.mark.parametrize("changes", [{"preset": "network"}, {"preset": "paper", "participation": 2, "dropout": 0.2}])
def test_a_run_that_ended_early_is_a_run_of_fewer_rounds(folder: str, changes: dict[str, Any]) -> None:
    """But for the rivals that are trained, which a run that was stopped does without."""
    changes = {**SMALL, "data.join": "none", "data.source": folder, **changes}
    preset, stopping = changes.pop("preset"), Stopping(2)
    asked = load_settings(preset, changes | {"rounds": 5})
    early = run_experiment(asked, observers=[stopping])
    shorter = run_experiment(load_settings(preset, changes | {"rounds": 2}))
    assert early.result.ended_early
    assert not shorter.result.ended_early
    assert early.settings.training.rounds == 5
    found, expected = (figures(each.result) for each in (early, shorter))
    assert found == expected
    assert found["digest"] != figures(run_experiment(asked).result)["digest"]


def test_after_an_end_was_asked_for_the_stages_of_lists_take_one_round_each(folder: str) -> None:
    """What is done after Ctrl-C has a bound that hangs on no setting."""
    small = {"rank": 2, "embedding_rank": 3, "embedding_rounds": 1, "implicit_rank": 3, "implicit_rounds": 9}
    changes = {"data.source": folder, "nodes": 3, "personal_nodes": 3, "select": False, **small}
    asked = load_settings("hierarchical", {**changes, "rounds": 5})
    stopped, whole = (run_experiment(asked, observers=[Stopping(rounds)]) for rounds in (2, 5))
    assert stopped.result.ended_early
    assert (stopped.models["rating"].round, whole.models["rating"].round) == (2, 5)
    assert (stopped.models["implicit"].round, whole.models["implicit"].round) == (1, 9)
    assert stopped.result.ranking.keys() == whole.result.ranking.keys()


def figures(result: Any) -> Any:
    """All that a result says, but for what it was asked for and the time that it took."""
    told = json.loads(result.model_dump_json(exclude={"settings", "seconds", "ended_early"}))
    told.pop("verdict")
    for baselines in (told["baselines"], told["personal_baselines"]):
        baselines.update(dict.fromkeys(("local_only", "centralised")))
    for record in told["rounds"]:
        record.pop("seconds")
    told["metrics"].pop("seconds")
    return told


def test_no_round_is_missing_where_the_last_one_is_the_last_one_wanted(folder: str) -> None:
    stopping = Stopping(2)
    settings = load_settings("network", {**SMALL, "data.source": folder})
    assert not run_experiment(settings, observers=[stopping]).result.ended_early


def test_a_method_without_rounds_never_ends_early(folder: str) -> None:
    settings = load_settings("local", {"nodes": 3, "personal_nodes": 3, "data.source": folder})
    result = run_experiment(settings, observers=[Stopping(0)]).result
    assert not result.ended_early
    assert result.rounds[0].ratings == 0


@pytest.mark.parametrize("changes", [{}, {"privacy_unit": "example", "output_bias": "random"}])
def test_a_round_of_a_network_learns_from_each_rating_once_an_epoch(folder: str, changes: dict[str, Any]) -> None:
    if changes:
        pytest.importorskip("dp_accounting")
    result = experiment(folder, local_epochs=3, **changes).result
    assert [record.ratings for record in result.rounds] == [3 * result.data.split["train"]] * 2


def test_a_round_of_the_hierarchical_model_learns_from_each_rating_once(folder: str) -> None:
    settings = {"nodes": 3, "personal_nodes": 3, "rounds": 4, "protocol": "warm", "min_raters": 2}
    settings |= {"rank_items": False, "select": False, "embedding_rank": 4, "data.source": folder}
    stopping = Stopping(2)
    asked = load_settings("hierarchical", settings)
    early = run_experiment(asked, observers=[stopping]).result
    assert [record.ratings for record in early.rounds] == [early.data.split["train"]] * 2
    assert figures(early) == figures(run_experiment(load_settings("hierarchical", settings | {"rounds": 2})).result)
    # Seven opening rounds gather the embedding; each begins at 0 and ends with all ratings.
    assert [number for number, share in stopping.shares if share == 0] == [-7, -6, -5, -4, -3, -2, -1, 0, 1, 2]
    assert [number for number, share in stopping.shares if share == 1] == [-7, -6, -5, -4, -3, -2, -1, 0, 1, 2]


def test_more_nodes_than_users_is_refused_in_one_line(folder: str) -> None:
    with pytest.raises(HierfedError, match="31 nodes cannot share 9 users") as caught:
        experiment(folder, personal_nodes=31)
    assert str(caught.value).endswith("(--set personal_nodes=9)")
    assert "\n" not in str(caught.value)


def test_a_table_without_times_cannot_be_divided_by_time(table: str) -> None:
    with pytest.raises(HierfedError, match="needs timestamps"):
        experiment(table, partition="time")


def test_load_dataset_reads_what_the_settings_name(folder: str) -> None:
    dataset = load_dataset(load_settings("network", {"data.source": folder}))
    expected = small_ratings()
    assert len(dataset.ratings) == len(expected)
    assert float(dataset.ratings.value.sum(dtype=float)) == pytest.approx(expected["rating"].sum())


def test_a_run_that_diverges_says_so(folder: str) -> None:
    with pytest.raises(HierfedError, match=r"diverged in round 1: lower training\.learning_rate"):
        experiment(folder, learning_rate=1e30)


def test_a_personalisation_that_diverges_says_so(folder: str) -> None:
    with pytest.raises(HierfedError, match=r"diverged on node 1: lower personalisation\.tuning_learning_rate"):
        experiment(folder, node_level="fine_tuning", tuning_learning_rate=1e30)


class BlindTo(torch.nn.Module):
    """A network whose loss is no number once it has learned from an item of this genre, and whose ratings are."""

    def __init__(self, features: int, genre: int):
        super().__init__()
        self.genre, self.head = genre, torch.nn.Linear(features, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rated: torch.Tensor = self.head(inputs)
        if self.training:
            rated = rated + torch.where(inputs[..., self.genre : self.genre + 1] > 0, torch.nan, 0.0).detach()
        return rated


@pytest.mark.parametrize("preset", ["network", "paper"])
def test_a_loss_that_is_no_number_ends_the_run(folder: str, preset: str) -> None:
    with pytest.raises(HierfedError, match=r"^training diverged in round 1: lower training\.learning_rate$"):
        experiment(folder, preset, module=lambda features: BlindTo(features, 2))


def test_a_module_s_first_parameters_come_from_the_seed(folder: str) -> None:
    def make(features: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(features, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    digests = []
    with torch.random.fork_rng(devices=[]):
        for place_of_torchs_own_generator in (1, 2):
            torch.manual_seed(place_of_torchs_own_generator)
            digests.append(experiment(folder, module=make).result.digest)
    assert digests[0] == digests[1]
