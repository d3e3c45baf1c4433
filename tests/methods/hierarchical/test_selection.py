"""Hyperparameters are chosen inside the train rows, each from its trials, and intervals get the width that holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node, make_nodes
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.hierarchical import selection as selection_room
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.selection import select
from hierfed.methods.hierarchical.validation import Validators, _gain
from hierfed.results import Selection
from hierfed.settings import Settings, load_settings

FEW = {"validation_rounds": 2, "validation_users": 100, "trial_users": 100, "implicit_trial": 0}
FEW |= {"trial_rows": 1, "validation_rows": 1}


def settings_with(**changes: Any) -> Settings:
    return load_settings(
        "hierarchical",
        {**FEW, **changes},
    )


def choose(settings: Settings, method: HierarchicalFactors, nodes: Sequence[Node]) -> tuple[Settings, Selection]:
    """The settings that are chosen with open sums in one process."""
    found = select(settings, method, nodes, run_rounds, OPEN_SUM)
    assert found.record is not None
    return found.settings, found.record


def selected(settings: Settings, method: HierarchicalFactors, nodes: Sequence[Node]) -> Selection:
    return choose(settings, method, nodes)[1]


@pytest.fixture
def nodes(make_pairs) -> list[Node]:
    """Two nodes of 20 users each, with test rows of their own."""
    rows: Ratings = make_pairs(users=40, items=25, seed=7, most=14)
    held = np.random.default_rng(0).random(len(rows)) < 0.2
    group = rows.user // 20
    return [Node(k, str(k + 1), rows.take(~held & (group == k)), rows.take(held & (group == k))) for k in range(2)]


def test_test_rows_do_not_enter_the_choice(nodes, make_content, make_factors):
    method = make_factors(make_content(25))
    found = selected(settings_with(), method, nodes)
    others = [replace(node, test=replace(node.test, value=5.5 - node.test.value)) for node in nodes]
    assert selected(settings_with(), method, others) == found


@pytest.mark.parametrize(
    ("gains", "tried", "expected"),
    [
        (lambda first, then: False, {0.4, 0.6, 1.0, 0.5, 2.0}, (0.4, 1.0)),
        (lambda first, then: True, {0.4, 0.6, 0.8, 1.0, 0.5, 0.0}, (0.8, 0.0)),
    ],
    ids=["nothing gains", "all gains"],
)
def test_the_next_value_is_taken_while_it_gains(nodes, make_content, make_factors, monkeypatch, gains, tried, expected):
    """Noise first, then smaller amplitudes, or larger ones where no smaller one gains; what loses ends the walk."""
    method = make_factors(make_content(25))
    asked = settings_with(amplitudes=[1.0, 0.5, 0.0], noise_shares=[0.4, 0.6, 0.8])
    monkeypatch.setattr(Validators, "gains", lambda self, first, then, rows: gains(first, then))
    chosen, selection = choose(asked, method, nodes)
    assert {trial.value for trial in selection.trials} == tried
    share, amplitude = (trial.value for trial in selection.trials if trial.chosen)
    assert (share, amplitude) == expected
    assert chosen.kriging.content_amplitude == pytest.approx(amplitude * method.kernel.content)
    assert chosen.kriging.title_amplitude == pytest.approx(amplitude * method.kernel.title)
    assert chosen.kriging.noise_share == share
    changed = {"factors", "kriging", "selection"}
    assert chosen.model_dump(exclude=changed) == asked.model_dump(exclude=changed)


def test_a_larger_amplitude_is_taken_in_the_place_of_the_first(nodes, make_content, make_factors, monkeypatch):
    """No other share of noise gains, and no smaller amplitude."""
    answers = iter([False, False, True])
    monkeypatch.setattr(Validators, "gains", lambda *given: next(answers))
    method = make_factors(make_content(25))
    chosen, selection = choose(settings_with(larger_amplitudes=[2.0]), method, nodes)
    amplitudes = {trial.value: trial.chosen for trial in selection.trials if trial.setting == "amplitude"}
    assert amplitudes == {0.5: False, 1.0: False, 2.0: True}
    assert len(selection.trials) == 2 + len(amplitudes)
    assert chosen.kriging.content_amplitude == 2 * method.kernel.content


def test_a_value_that_gains_has_the_smaller_error(nodes, make_content, make_factors):
    method = make_factors(make_content(25))
    for asked in (settings_with(), settings_with(amplitudes=[0.0, 1.0], noise_shares=[3.0, 0.4])):
        selection, wanted = selected(asked, method, nodes), asked.selection
        for setting, first in (("amplitude", wanted.amplitudes[0]), ("noise_share", wanted.noise_shares[0])):
            trials = {trial.value: trial for trial in selection.trials if trial.setting == setting}
            (taken,) = (trial for trial in trials.values() if trial.chosen)
            assert taken.rmse <= trials[first].rmse


def test_where_users_have_few_rows_more_of_them_validate(nodes, make_content, make_factors):
    """40 users hold 38 rows: so many as have 20 of these on average, but no more than there are."""
    method = make_factors(make_content(25))
    held = selected(settings_with(), method, nodes).rows
    for rows in (held // 2, held, 10 * held):
        found = selected(settings_with(validation_users=1, validation_rows=rows), method, nodes).rows
        assert found == pytest.approx(min(rows, held), rel=0.3)


def test_a_larger_rank_is_tried_where_there_are_ratings_enough(nodes, make_content, make_factors):
    method = make_factors(make_content(25))
    enough = settings_with(larger_rank_from=100, larger_rank=4, least_gain=0.0)
    trials = [trial for trial in selected(enough, method, nodes).trials if trial.setting == "rank"]
    assert [trial.value for trial in trials] == [method.rank, 4]
    too_few = settings_with(larger_rank_from=10**6)
    assert "rank" not in {trial.setting for trial in selected(too_few, method, nodes).trials}


@pytest.fixture
def many_tastes() -> list[Node]:
    """Users who have rated most of few items, by seven tastes, on a scale of -10 to 10."""
    rng = np.random.default_rng(2)
    users, items, tastes = 300, 30, 7
    value = rng.normal(0, 1, (users, tastes)) @ rng.normal(0, 1, (tastes, items)) + rng.normal(0, 1, (users, items))
    user, item = np.nonzero(rng.random((users, items)) < 0.8)
    rows = Ratings(user.astype(np.int32), item.astype(np.int32), value[user, item].clip(-10, 10).astype(np.float32))
    return [Node(0, "1", rows, rows.between(0, 0))]


def test_ranks_are_doubled_while_that_gains_where_items_have_many_ratings(many_tastes, make_content, make_factors):
    method = make_factors(make_content(30), rank=2)
    asked = {"larger_rank": 4, "larger_rank_from": 10**6, "validation_rounds": 20}
    chosen, selection = choose(settings_with(**asked, ratings_per_item=200), method, many_tastes)
    trials = [trial for trial in selection.trials if trial.setting == "rank"]
    assert [trial.value for trial in trials] == [2, 4, 8, 16, 32][: len(trials)]
    errors = [trial.rmse for trial in trials]
    assert errors[:3] == sorted(errors[:3], reverse=True)
    (taken,) = (trial.value for trial in trials if trial.chosen)
    assert chosen.factors.rank == taken >= 8
    gains = [before - after for before, after in itertools.pairwise(errors)]
    least = 0.002 * float(np.std(many_tastes[0].train.value)) / 1.05
    assert [gain > least for gain in gains] == [trial.value <= taken for trial in trials[1:]]
    for fewer in (settings_with(**asked, ratings_per_item=250), settings_with(**asked)):
        assert "rank" not in {trial.setting for trial in selected(fewer, method, many_tastes).trials}


def test_implicit_covariates_are_tried_where_users_have_few_ratings(nodes, make_content, make_factors):
    method = make_factors(make_content(25))
    asked = settings_with(implicit_trial=20.0, implicit_trial_rank=4)
    chosen, selection = choose(asked, method, nodes)
    trials = [trial for trial in selection.trials if trial.setting == "implicit_scale"]
    assert [trial.value for trial in trials] == [0.0, 20.0]
    assert [trial.chosen for trial in trials].count(True) == 1
    expected = (20.0, 4) if trials[1].chosen else (0.0, method.embedding_rank)
    assert (chosen.factors.implicit_scale, chosen.factors.embedding_rank) == expected
    assert trials[1].rmse < trials[0].rmse or not trials[1].chosen
    many = settings_with(implicit_trial=20.0, implicit_up_to=1.0)
    assert "implicit_scale" not in {trial.setting for trial in selected(many, method, nodes).trials}


def test_a_gain_is_summed_by_user_and_its_squares_are_those_of_users():
    rows = Ratings(np.array([4, 4, 9], np.int32), np.array([0, 1, 0], np.int32), np.array([1, 2, 3], np.float32))
    found = _gain(torch.full((3,), 1.0), torch.full((3,), 2.0), rows).arrays
    # User 4: 0 + 1 before, 1 + 0 after; user 9: 4 before, 1 after.
    assert found["gain"].tolist() == [3.0]
    assert found["squares"].tolist() == [9.0]


def test_without_kriging_the_intervals_alone_are_fitted(nodes, make_content, make_factors):
    chosen, selection = choose(settings_with(), make_factors(make_content(25), kernel=None), nodes)
    assert selection.trials == []
    assert selection.deviation_scale == chosen.selection.deviation_scale > 0
    assert chosen.kriging == settings_with().kriging


def test_groups_of_enough_rows_get_a_width_of_their_own(nodes, make_content, make_factors, monkeypatch):
    method = make_factors(make_content(25))
    asked = settings_with(amplitudes=[1.0], noise_shares=[method.kernel.noise_share])
    few, _ = choose(asked, method, nodes)
    assert few.selection.group_scales == (1.0,) * 6
    monkeypatch.setattr(selection_room, "LEAST_OF_GROUP", 1)
    chosen, found = choose(asked, method, nodes)
    first, second, *none = chosen.selection.group_scales
    assert first != second
    assert none == [1.0] * 4
    # The same trial again, with widths already fitted: they are right, to a bin of the histogram.
    fitted = replace(method, deviation_scale=found.deviation_scale, group_scales=chosen.selection.group_scales)
    again, overall = choose(asked, fitted, nodes)
    for scale in again.selection.group_scales[:2]:
        assert scale * overall.deviation_scale == pytest.approx(1.0, abs=0.03)


def test_the_fitted_width_holds_nine_in_ten_of_the_validation_rows(nodes, make_content, make_factors):
    method = make_factors(make_content(25))
    asked = settings_with(amplitudes=[1.0], noise_shares=[0.4])
    first = selected(asked, method, nodes)
    # The same trial again, with deviations already scaled: the width is right, to a bin of the histogram.
    scaled = replace(method, deviation_scale=first.deviation_scale)
    assert first.deviation_scale != pytest.approx(1.0, abs=0.03)
    assert selected(asked, scaled, nodes).deviation_scale == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("users", "judged"), [(4, 4), (12, 12), (25, 24), (100, 24)])
def test_where_nodes_are_more_than_validation_users_some_nodes_validate(make_content, make_factors, users, judged):
    """12 nodes of two users, who hold two of ten ratings out: as many users of each node, or one of some nodes."""
    rng = np.random.default_rng(0)
    item = np.concatenate([rng.choice(25, 10, replace=False) for _ in range(24)])
    rows = Ratings(
        np.repeat(np.arange(24), 10).astype(np.int32),
        item.astype(np.int32),
        (rng.integers(1, 11, len(item)) / 2).astype(np.float32),
    )
    nodes = make_nodes(rows, rows.user // 2, rows.between(0, 0), rows.user[:0], 12)
    drawn = {"validation_users": users, "trial_users": users, "validation_share": 0.2}
    wanted = settings_with(**drawn, amplitudes=[1.0], noise_shares=[0.4])
    assert selected(wanted, make_factors(make_content(25)), nodes).rows == 2 * judged
