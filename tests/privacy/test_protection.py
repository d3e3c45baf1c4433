"""Runs under secure sums give the numbers of runs without them, whatever the method."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import rows_to_predict
from hierfed.engines.in_process import FinishedRound, run_rounds
from hierfed.engines.rounds import Round, rule_of
from hierfed.errors import SettingsError
from hierfed.federated.contract import Contribution, SharedModel
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.ranking.ease import Ease
from hierfed.methods.ranking.implicit import ImplicitFactors
from hierfed.privacy.protection import secure_sum_of
from hierfed.privacy.secure_sum import bounds
from hierfed.privacy.secure_sum.refusals import OutOfBounds, SecureSumError
from hierfed.privacy.secure_sum.simulation import SecureSum
from hierfed.privacy.settings import PrivacySettings
from hierfed.settings import load_settings

ITEMS, USERS = 25, 40


@pytest.fixture
def nodes(make_pairs, divide_users) -> list[Node]:
    return divide_users(make_pairs(users=USERS, items=ITEMS, seed=3, most=14), [user % 5 for user in range(USERS)])


def largest_difference(first: SharedModel, second: SharedModel) -> float:
    assert first.arrays.keys() == second.arrays.keys()
    return max(float((first.arrays[name] - second.arrays[name]).abs().max()) for name in first.arrays)


def test_settings_say_how_contributions_are_added():
    assert rule_of(load_settings("network")) is OPEN_SUM
    assert rule_of(load_settings("network", {"secure_sums": True, "colluding": 0.2})) == SecureSum(0.2)


def test_secure_sums_without_their_package_are_one_clear_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'hierfed\[privacy\]'"):
        secure_sum_of(PrivacySettings(secure_sums=True))


@pytest.mark.parametrize("few", [0, 4096], ids=["in 64 bits", "in 128 bits"])
def test_personal_predictions_are_off_by_less_than_a_millionth(few, nodes, make_content, make_factors, monkeypatch):
    monkeypatch.setattr(bounds, "FEW_ENTRIES", few)
    method = make_factors(make_content(ITEMS), embedding_rank=4)
    users, items = torch.arange(USERS).repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS)
    predictions = []
    for rule in (OPEN_SUM, SecureSum()):
        trained = run_rounds(method, nodes, 8, how=Round(rule))
        models = method.personalise(trained.shared, nodes, trained.private)
        predictions.append(torch.stack([model.distribution(rows_to_predict(users, items))[0] for model in models]))
    worst = float((predictions[0] - predictions[1]).abs().max())
    assert 0 < worst <= 1e-6


def test_counts_and_so_the_ranking_model_are_exact(nodes):
    method = Ease(ITEMS)
    openly, securely = (run_rounds(method, nodes, 1, how=Round(each)).shared for each in (OPEN_SUM, SecureSum()))
    assert openly.digest() == securely.digest()


def test_implicit_factors_are_off_by_less_than_a_millionth(nodes):
    method = ImplicitFactors(ITEMS, seed=0, rank=4)
    openly, securely = (run_rounds(method, nodes, 3, how=Round(each)).shared for each in (OPEN_SUM, SecureSum()))
    assert largest_difference(openly, securely) <= 1e-6


def test_sums_do_not_hang_on_the_masks_nor_on_the_order_of_the_nodes(nodes):
    method = ImplicitFactors(ITEMS, seed=0, rank=4)
    digests = {run_rounds(method, each, 2, how=Round(SecureSum())).shared.digest() for each in (nodes, nodes[::-1])}
    assert len(digests) == 1


def test_masked_vectors_and_keys_are_what_nodes_send(nodes):
    told: dict[str, list[FinishedRound]] = {"openly": [], "securely": []}
    for name, rule in (("openly", OPEN_SUM), ("securely", SecureSum())):
        run_rounds(Ease(ITEMS), nodes, 1, told[name].append, Round(rule))
    (openly,), (securely,) = told.values()
    # The arrays of this method are small, so each entry takes two words.
    assert securely.bytes_up > 2 * openly.bytes_up
    assert securely.bytes_down > openly.bytes_down


def test_one_node_alone_has_no_sum_to_hide_in(nodes):
    with pytest.raises(SecureSumError, match="of 1 nodes"):
        run_rounds(Ease(ITEMS), nodes[:1], 1, how=Round(SecureSum()))


@pytest.mark.parametrize("wild", [float("nan"), 2.0**61])
def test_what_cannot_be_encoded_is_refused_before_anything_is_sent(wild):
    sent = [(node, Contribution({"sum": torch.tensor([wild], dtype=torch.float64)})) for node in range(3)]
    with pytest.raises(OutOfBounds, match="array 'sum'"):
        SecureSum()(sent)
