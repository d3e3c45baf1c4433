"""Whole runs of networks under differential privacy: what is used, what is spent, and what is said of it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import DataError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.federated.contract import ordered_sum
from hierfed.methods.averaging.network import occupied
from hierfed.methods.averaging.private_averaging import ExamplePrivateAveraging, NodePrivateAveraging
from hierfed.outcome import Outcome
from hierfed.privacy.accounting import BudgetSpent, Releases, epsilon_of
from hierfed.privacy.secure_sum.simulation import SecureSum
from hierfed.private_randomness import PrivateStreams, foreseeable_streams
from hierfed.settings import load_settings
from tests.reference.private_loop import train_privately_in_a_loop

GENRES = ("Action", "Comedy", "Drama")
SMALL: dict[str, Any] = {
    "rounds": 2,
    "nodes": 3,
    "personal_nodes": 2,
    "hidden": [6, 4],
    "batch_size": 16,
    "output_bias": "random",
}
UNITS: dict[str, dict[str, Any]] = {
    "example": {"privacy_unit": "example"},
    "node": {"privacy_unit": "node", "secure_sums": True},
}


def small_ratings() -> pl.DataFrame:
    """300 ratings of 20 users on 30 films."""
    rng = np.random.default_rng(11)
    rows = [(user, item, float(rng.integers(1, 11)) / 2) for user in range(20) for item in rng.permutation(30)[:15]]
    return pl.DataFrame(rows, schema=["userId", "movieId", "rating"], orient="row")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("ml")
    small_ratings().with_columns(timestamp=pl.lit(10**9)).write_csv(place / "ratings.csv")
    films = [(item, f"Film {item} ({1950 + item})", GENRES[item % 3]) for item in range(30)]
    pl.DataFrame(films, schema=["movieId", "title", "genres"], orient="row").write_csv(place / "movies.csv")
    return str(place)


def experiment(folder: str, unit: str, module: Any = None, **changes: Any) -> Outcome:
    settings = load_settings("network", {**SMALL, **UNITS[unit], "data.source": folder, **changes})
    return run_experiment(settings, module=module)


@pytest.fixture(scope="module")
def outcomes(folder: str) -> dict[str, Outcome]:
    return {unit: experiment(folder, unit, epsilon=5.0) for unit in UNITS}


@pytest.mark.parametrize("unit", UNITS)
def test_the_record_adds_up_to_what_was_spent(unit, outcomes):
    record = outcomes[unit].result.privacy
    assert (record.unit, record.epsilon, record.delta, record.accountant) == (unit, 5.0, 1e-5, "rdp")
    costs = [
        epsilon_of([Releases(each.noise_multiplier, each.count, each.sampling)], record.delta)
        for each in record.releases
    ]
    assert record.epsilon_spent == pytest.approx(max(costs), rel=1e-9)
    assert record.epsilon_spent == pytest.approx(5.0, rel=1e-5)
    assert all(each.clip_norm == 1.0 for each in record.releases)


def test_the_releases_of_unit_example_are_all_steps_of_each_kind_of_node(outcomes):
    outcome = outcomes["example"]
    rows = sorted({len(node.train) for node in outcome.federated_nodes or nodes_of(outcome)})
    found = [(each.count, each.sampling) for each in outcome.result.privacy.releases]
    assert found == [(2 * 2 * -(-each // 16), 16 / each) for each in rows]
    assert outcome.result.privacy.warning == ""


def nodes_of(outcome: Outcome) -> list[Node]:
    from hierfed.data.division import assign, divide

    return assign(outcome.dataset, divide(outcome.dataset, outcome.settings), outcome.settings)[0]


def test_unit_node_releases_once_a_round_and_warns_of_few_nodes(outcomes):
    record = outcomes["node"].result.privacy
    (release,) = record.releases
    assert (release.count, release.sampling) == (2, 1.0)
    method = outcomes["node"].method
    assert isinstance(method, NodePrivateAveraging)
    # Of three nodes at a third, none is held to collude.
    expected = release.noise_multiplier * float(occupied(method.predictor).sum()) ** 0.5 / 3
    assert f"noise is {expected:.1f} times as long as the largest change that 3 nodes" in record.warning


def test_colluding_nodes_are_not_counted_on_for_noise(folder):
    method = experiment(folder, "node", nodes=8, colluding=0.25).method
    assert isinstance(method, NodePrivateAveraging)
    assert method.noise_nodes == 6


def test_loss_distributions_spend_the_same_budget_with_less_noise(folder, outcomes):
    record = experiment(folder, "node", epsilon=5.0, accountant="pld").result.privacy
    (tight,), (loose,) = record.releases, outcomes["node"].result.privacy.releases
    assert record.accountant == "pld"
    assert record.epsilon_spent == pytest.approx(5.0, rel=1e-5)
    assert tight.noise_multiplier < loose.noise_multiplier


def test_a_delta_that_allows_for_a_rating_told_as_it_is_is_warned_of(folder, outcomes):
    rows = sum(len(node.train) for node in nodes_of(outcomes["example"]))
    for delta, warned in ((1.1 / rows, True), (0.9 / rows, False)):
        warning = experiment(folder, "example", delta=delta, rounds=1).result.privacy.warning
        assert (f"one of the {rows:,} ratings to be told as it is" in warning) == warned


def test_noise_that_nodes_drown_out_is_not_warned_of(folder):
    record = experiment(folder, "node", epsilon=400.0, hidden=[]).result.privacy
    assert record.warning == ""


@pytest.mark.parametrize("unit", UNITS)
def test_runs_repeat_and_losses_are_nobodys(unit, outcomes, folder):
    outcome = outcomes[unit]
    assert experiment(folder, unit, epsilon=5.0).result.digest == outcome.result.digest
    assert experiment(folder, unit, epsilon=4.0).result.digest != outcome.result.digest
    assert [record.train_loss for record in outcome.result.rounds] == [[], []]


def test_the_trainer_agrees_with_the_reference(folder, outcomes, monkeypatch):
    monkeypatch.setattr("hierfed.methods.averaging.protection.train_privately", train_privately_in_a_loop)
    loop = experiment(folder, "example", epsilon=5.0)
    found, expected = (each.shared.arrays["parameters"] for each in (loop, outcomes["example"]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_features_are_fitted_on_the_catalogue_each_item_once(unit, outcomes):
    features = outcomes[unit].method.features.double()
    torch.testing.assert_close(features.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_nodes_tell_nothing_of_their_rows_before_the_rounds(unit, folder, monkeypatch):
    def tell(*_: object) -> None:
        raise AssertionError("a node has told of its rows")

    monkeypatch.setattr("hierfed.methods.averaging.feature_fitting.FeatureFitting.contribute", tell)
    experiment(folder, unit)


def test_items_without_public_features_are_refused(tmp_path: Path):
    path = tmp_path / "ratings.csv"
    small_ratings().rename({"userId": "user", "movieId": "item"}).write_csv(path)
    with pytest.raises(DataError, match="no item features"):
        experiment(str(path), "example")


def test_figures_to_compare_with_are_those_of_a_run_without_noise(folder, outcomes):
    usual = run_experiment(load_settings("network", {**SMALL, "data.source": folder})).result
    noised = outcomes["example"].result
    assert noised.baselines.biases == usual.baselines.biases
    # With genres that are as common among rows as among films, features would be the same; here they nearly are.
    assert noised.baselines.local_only == pytest.approx(usual.baselines.local_only, rel=0.05)


def test_unit_node_is_the_same_under_secure_sums_and_in_the_open(outcomes):
    outcome = outcomes["node"]
    nodes = nodes_of(outcome)
    openly = run_rounds(outcome.method, nodes, 2).shared
    securely = run_rounds(outcome.method, nodes, 2, how=Round(SecureSum(0.33))).shared
    assert openly.digest() == securely.digest() == outcome.shared.digest()


def test_unit_example_goes_through_secure_sums_too(folder, outcomes):
    securely = experiment(folder, "example", epsilon=5.0, secure_sums=True).shared.arrays["parameters"]
    torch.testing.assert_close(securely, outcomes["example"].shared.arrays["parameters"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_a_round_beyond_the_budget_is_not_run(unit, outcomes):
    outcome = outcomes[unit]
    with pytest.raises(BudgetSpent):
        run_rounds(outcome.method, nodes_of(outcome), 3)


@pytest.mark.parametrize("unit", UNITS)
def test_a_node_with_a_secret_cannot_be_foreseen_from_the_seed(unit, outcomes):
    method, nodes = outcomes[unit].method, nodes_of(outcomes[unit])
    secret = replace(method, streams=PrivateStreams(bytes(32)))
    assert method.streams == foreseeable_streams(0)
    digests = {run_rounds(each, nodes, 1).shared.digest() for each in (method, secret)}
    assert len(digests) == 2


def test_the_noise_of_a_whole_round_is_what_accounting_holds_it_for(outcomes):
    """The difference of two sums with unlike noise, on top of the same changes, has twice the variance."""
    method = outcomes["node"].method
    assert isinstance(method, NodePrivateAveraging)
    nodes, places = nodes_of(outcomes["node"]), occupied(method.predictor)
    (release,) = outcomes["node"].result.privacy.releases
    sums = []
    for key in range(60):
        drawn = replace(method, streams=PrivateStreams(bytes([key]) * 32))
        sent = [sent for sent, _ in drawn.contribute(drawn.start(), nodes, [None] * 3)]
        sums.append(ordered_sum(sent).arrays["change"][places].numpy())
    measured = np.std(np.diff(sums, axis=0)[::2]) / 2**0.5
    assert measured == pytest.approx(release.noise_multiplier * release.clip_norm, rel=0.05)


def with_part(part: nn.Module) -> Any:
    return lambda inputs: nn.Sequential(nn.Linear(inputs, 4), part, nn.Linear(4, 1))


@pytest.mark.parametrize("part", [nn.Dropout(0.3), nn.BatchNorm1d(4, track_running_stats=False)])
def test_modules_in_which_rows_are_not_apart_are_refused(part, folder):
    with pytest.raises(SettingsError, match=f"{type(part).__name__} a row's gradient hangs on the other rows"):
        experiment(folder, "example", with_part(part))


def test_batch_statistics_are_refused_in_any_run(folder):
    with pytest.raises(SettingsError, match="batch normalisation, cannot be averaged"):
        experiment(folder, "example", with_part(nn.BatchNorm1d(4)))


def test_other_modules_train_with_noise(folder):
    outcome = experiment(folder, "example", with_part(nn.LayerNorm(4)))
    assert isinstance(outcome.method, ExamplePrivateAveraging)
    assert outcome.result.privacy is not None


def test_without_the_packages_it_needs_the_error_says_which(folder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dp_accounting" else found(name))
    with pytest.raises(SettingsError, match=r"pip install 'hierfed\[privacy\]'"):
        experiment(folder, "example")
