"""The verdict says in words what the figures say, also where that is bad news."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from hierfed.evaluation.verdict import give_verdict
from hierfed.results import Baselines, NodeRecord, UserSummary, Verdict

BASELINES = Baselines(global_mean=1.05, item_mean=1.0, user_mean=0.99, biases=0.95, local_only=1.02, centralised=1.01)
PERSONAL = BASELINES.model_copy(update={"biases": 0.9, "global_mean": 1.2})


def node(gain: float) -> NodeRecord:
    figures = dict.fromkeys(NodeRecord.model_fields, 1)
    return NodeRecord(**(figures | {"node": "1", "gain": gain}))


def verdict(
    global_rmse: float = 1.0, gains: tuple[float, ...] = (0.1, -0.05, 0.2), after: float = 0.95, users=(0.1,)
) -> Verdict:
    figures = dict.fromkeys(UserSummary.model_fields, 1.0)
    summary = UserSummary(**(figures | {"users": len(users), "rmse_after": after, "gains": list(users)}))
    return give_verdict(global_rmse, BASELINES, PERSONAL, [node(gain) for gain in gains], summary)


def test_a_model_worse_than_the_mean_is_said_not_to_beat_it():
    found = verdict(global_rmse=1.0654)
    assert found.beats_global_mean is False
    assert found.words[0] == "The global model does not beat predicting the mean: RMSE 1.0654 against 1.0500."
    assert not found.beats_biases
    assert "does not beat user and item biases: RMSE 1.0654 against 0.9500" in found.words[1]


def test_a_model_better_than_the_mean_is_said_to_beat_it():
    found = verdict(global_rmse=0.96)
    assert (found.beats_global_mean, found.beats_biases) == (True, False)
    assert found.words[0] == "The global model beats predicting the mean: RMSE 0.9600 against 1.0500."
    assert found.words[1].startswith("The global model does not beat user and item biases")
    assert verdict(global_rmse=0.94).beats_biases is True


def test_a_tie_beats_nothing():
    found = verdict(global_rmse=1.05, after=0.9)
    assert (found.beats_global_mean, found.personal_beats_biases) == (False, False)
    assert "does not beat predicting the mean" in found.words[0]
    assert "does not beat user and item biases" in found.words[4]


def test_a_model_that_diverged_beats_nothing():
    found = verdict(global_rmse=float("nan"), after=float("nan"))
    assert not (found.beats_global_mean or found.beats_biases or found.personal_beats_biases)
    assert all("does not beat" in found.words[place] for place in (0, 1, 4))


@pytest.mark.parametrize(("after", "beats"), [(0.89, True), (0.93, False)])
def test_the_personalised_model_is_judged_by_the_baselines_on_its_own_rows(after, beats):
    # 0.93 would beat the biases on the federated users' rows (0.95), but not those on its own (0.90).
    found = verdict(after=after)
    assert found.personal_beats_biases is beats
    assert ("does not beat" not in found.words[4]) is beats
    assert f"RMSE {after:.4f} against 0.9000" in found.words[4]


def test_nodes_and_users_that_are_worse_off_are_counted():
    found = verdict(gains=(0.1, -0.001, 0.0, -0.3), users=(-0.5, 0.0, 0.25, -0.1, -1e-9))
    assert (found.nodes_harmed, found.users_harmed) == (2, 3)
    assert "2 nodes harmed" in found.words[2]
    assert found.words[3].startswith("3 of 5 users are worse off")
    assert "1 node harmed" in verdict(gains=(0.1, -0.1)).words[2]
    assert "0 nodes harmed" in verdict(gains=(0.1, 0.2)).words[2]


def test_the_gain_is_the_mean_over_nodes_with_its_spread_and_test():
    gains = (0.03, -0.01, 0.05, 0.02)
    found = verdict(gains=gains)
    assert found.gain_mean == pytest.approx(0.0225)
    assert found.gain_sd == pytest.approx(math.sqrt(sum((gain - 0.0225) ** 2 for gain in gains) / 3))
    assert found.p_value == pytest.approx(ttest_1samp(gains, 0).pvalue)
    assert "lowers the held-out RMSE by 0.0225 on average over 4 nodes" in found.words[2]
    assert f"p = {ttest_1samp(gains, 0).pvalue:.2g}" in found.words[2]


def test_a_personalisation_that_harms_is_said_to_raise_the_error():
    assert "Personalisation raises the held-out RMSE by 0.1000" in verdict(gains=(-0.15, -0.05)).words[2]


def test_a_personalisation_without_effect_is_said_to_change_nothing():
    found = verdict(gains=(0.0, 0.0))
    assert found.words[2] == "Personalisation does not change the held-out RMSE; 0 nodes harmed."
    assert found.p_value is None


def test_nodes_without_held_out_rows_have_no_gain_and_are_not_counted():
    found = verdict(gains=(0.1, np.nan, -0.2, np.nan))
    assert found.gain_mean == pytest.approx(-0.05)
    assert found.nodes_harmed == 1
    assert "over 2 nodes" in found.words[2]


def test_one_node_has_a_gain_but_no_spread_and_no_test():
    found = verdict(gains=(0.1,))
    assert (found.gain_mean, found.gain_sd, found.p_value) == (0.1, 0.0, None)
    assert "over 1 node;" in found.words[2]


def test_a_global_model_worse_than_item_means_is_said_to_be_worse():
    told = "The global model is worse than item means: RMSE 1.0100 against 1.0000."
    assert verdict(global_rmse=1.01).words[-1] == told
    assert not any("item means" in words for words in verdict(global_rmse=0.99).words)


def test_biases_under_the_same_threshold_are_named_where_items_are_under_it():
    figures = dict.fromkeys(UserSummary.model_fields, 1.0) | {"users": 1, "rmse_after": 0.93, "gains": []}
    held = PERSONAL.model_copy(update={"pooled_biases": 0.94})
    words = give_verdict(1.0, BASELINES, held, [node(0.1)], UserSummary(**figures)).words
    rival = "user and item biases under the same threshold: RMSE 0.9300 against 0.9400."
    assert f"After personalisation the model beats {rival}" in words
    assert not any("threshold" in each for each in verdict().words)


@pytest.mark.parametrize(("after", "told"), [(1.0, "0.0200 better"), (1.02, "no better"), (1.1, "no better")])
def test_a_private_run_is_told_whether_it_pays(after: float, told: str):
    figures = dict.fromkeys(UserSummary.model_fields, 1.0) | {"users": 1, "rmse_after": after, "gains": []}
    users = UserSummary(**figures)
    words = give_verdict(1.0, BASELINES, PERSONAL, [node(0.1)], users, epsilon=3.9996).words
    expected = f"At epsilon 4 the model is {told} than sending nothing: RMSE {after:.4f} against 1.0200."
    assert expected in words
    open_run = give_verdict(1.0, BASELINES, PERSONAL, [node(0.1)], users)
    assert not any("sending nothing" in each for each in open_run.words)
