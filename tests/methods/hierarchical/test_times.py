"""Times at the users of the hierarchical model: nothing is sent of them, and without them nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.evaluation.judging import judge_intervals, judge_node, judge_users
from hierfed.federated.rules import OPEN_SUM
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.personal import restored
from hierfed.methods.hierarchical.pieces import PiecewiseFactors
from hierfed.methods.hierarchical.selection import select
from hierfed.methods.hierarchical.validation import Validators
from hierfed.models.time_kernel import TimeKernel
from hierfed.settings import load_settings

USERS, ITEMS = 24, 20
TIME = TimeKernel(sitting=0.3, day=0.1, drift=0.2, items=1.0)


def at_random_times(rows: Ratings, seed: int = 0) -> Ratings:
    """The same rows, each given within some years."""
    time = 1_400_000_000 + np.random.default_rng(seed).integers(0, 10**8, len(rows))
    return replace(rows, time=time)


def in_moods(rows: Ratings) -> Ratings:
    """The same rows, given in sittings a month apart; a sitting's mood moves all of its ratings by half a star."""
    rng = np.random.default_rng(4)
    sitting = rng.integers(0, 4, len(rows))
    moods = rng.choice([-1.0, 1.0], (rows.user.max() + 1, 4))
    value = (3 + moods[rows.user, sitting] + rng.normal(0, 0.2, len(rows))).astype(np.float32)
    return Ratings(rows.user, rows.item, value, 1_400_000_000 + sitting * 30 * 86_400 + rng.integers(0, 60, len(rows)))


def held_out(rows: Ratings) -> list[Node]:
    """Two nodes with a fifth of their rows as test rows."""
    held = np.random.default_rng(0).random(len(rows)) < 0.2
    of = [rows.user % 2 == number for number in range(2)]
    return [
        Node(number, str(number), rows.take(~held & here), rows.take(held & here)) for number, here in enumerate(of)
    ]


@pytest.fixture(scope="module")
def method(make_factors, make_content) -> HierarchicalFactors:
    plain = make_factors(make_content(ITEMS))
    found: HierarchicalFactors = replace(plain, kernel=replace(plain.kernel, time=TIME))
    return found


@pytest.fixture(scope="module")
def rows(make_pairs) -> Ratings:
    found: Ratings = at_random_times(make_pairs(USERS, ITEMS, seed=1))
    return found


def untimed(nodes: Sequence[Node]) -> list[Node]:
    return [replace(node, train=node.train.untimed, test=node.test.untimed) for node in nodes]


def test_times_change_no_sum_and_no_prediction_for_a_row_without_a_time(method, rows):
    nodes = held_out(rows)
    with_times, without = run_rounds(method, nodes, 4), run_rounds(method, untimed(nodes), 4)
    assert with_times.shared.digest() == without.shared.digest()
    models = method.personalise(with_times.shared, nodes, with_times.private)
    plain = method.personalise(without.shared, untimed(nodes), without.private)
    for node, dated, other in zip(nodes, models, plain, strict=True):
        assert (dated.timed, other.timed) == (True, False)
        for mine, theirs in zip(dated.distribution(node.test.untimed), other.distribution(node.test), strict=True):
            assert torch.equal(mine, theirs)
        assert not torch.equal(dated.predict(node.test), other.predict(node.test))


def test_a_user_s_own_file_keeps_the_times(method, rows):
    nodes = held_out(rows)
    trained = run_rounds(method, nodes, 3)
    knowledge = method.knowledge(trained.shared)
    models = method.personalise(trained.shared, nodes, trained.private)
    for model, node in zip(models, nodes, strict=True):
        for user, kept in model.tensors():
            mine = node.test.take(node.test.user == user)
            alone = restored(knowledge, kept).distribution(replace(mine, user=np.zeros_like(mine.user)))
            for one, other in zip(alone, model.distribution(mine), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dated", [True, False], ids=["with times", "without"])
def test_rows_that_come_later_keep_the_times_of_all(method, rows, dated):
    node = Node(0, "", rows, rows.between(0, 0))
    half = rows.user < USERS // 2
    first = Node(0, "", rows.take(half), rows.between(0, 0))
    later = rows.take(~half)
    trained = run_rounds(method, [first], 3)
    (joined,) = method.personalise(trained.shared, [first], [None], lambda _: later if dated else later.untimed)
    (whole,) = method.personalise(trained.shared, [node], [None])
    assert joined.timed == dated
    if dated:
        assert torch.equal(joined.own.times, whole.own.times)
        assert torch.equal(joined.own.items, whole.own.items)


def test_pieces_have_the_times_of_their_own_users(method, rows, monkeypatch):
    nodes = held_out(rows)
    trained = run_rounds(method, nodes, 3)
    whole = method.personalise(trained.shared, nodes, [None, None])
    monkeypatch.setattr("hierfed.methods.hierarchical.cohort.PIECE_ROWS", 20)
    pieces = method.personalise(trained.shared, nodes, [None, None])
    for one, other, node in zip(pieces, whole, nodes, strict=True):
        assert isinstance(one, PiecewiseFactors)
        assert one.timed
        torch.testing.assert_close(one.predict(node.test), other.predict(node.test))


def test_judging_says_both_figures_and_the_times_help_where_moods_do(make_factors, make_content, make_pairs):
    rows = in_moods(make_pairs(USERS, ITEMS, seed=2, most=18))
    plain = make_factors(make_content(ITEMS))
    nodes = held_out(rows)
    for time in (TIME, TIME.scaled(0.0)):
        method = replace(plain, kernel=replace(plain.kernel, time=time))
        trained = run_rounds(method, nodes, 4)
        models = method.personalise(trained.shared, nodes, trained.private)
        judged = [judge_node(method, trained.shared, node, model)[1] for node, model in zip(nodes, models, strict=True)]
        users, intervals = judge_users(judged), judge_intervals(judged)
        pairs = zip(models, nodes, strict=True)
        after = np.concatenate([model.predict(node.test.untimed).numpy() - node.test.value for model, node in pairs])
        assert users.rmse_after == pytest.approx(np.sqrt(np.mean(after**2)))
        if time == TIME:
            assert users.rmse_at_times < users.rmse_after - 0.1
            assert intervals.coverage_at_times > 0.7
        else:
            assert np.isnan([users.rmse_at_times, intervals.coverage_at_times]).all()


@pytest.mark.parametrize("helps", [True, False])
def test_times_count_where_they_gain_on_validation_rows(make_factors, make_content, make_pairs, helps):
    rows = make_pairs(USERS, ITEMS, seed=2, most=18)
    moody = in_moods(rows)
    if not helps:  # The moods stay, but come at other times than those of the ratings.
        moody = replace(moody, time=np.random.default_rng(0).permutation(moody.time))
    plain = make_factors(make_content(ITEMS))
    method = replace(plain, kernel=replace(plain.kernel, time=TIME))
    few = {"validation_rounds": 2, "trial_users": 100, "implicit_trial": 0}
    settings, nodes = load_settings("hierarchical", few), held_out(moody)
    found = select(settings, method, nodes, run_rounds, OPEN_SUM)
    chosen, selection = found.settings, found.record
    assert selection is not None
    trials = {trial.value: trial for trial in selection.trials if trial.setting == "time_factor"}
    assert (trials[1.0].rmse < trials[0.0].rmse) == trials[1.0].chosen == helps
    assert chosen.kriging.sitting_amplitude == (TIME.sitting if helps else 0.0)
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # No kernel gains more than a standard error: times count by their gain.
        patch.setattr(Validators, "gains", lambda *given: False)
        again = select(settings, method, nodes, run_rounds, OPEN_SUM).settings
    assert again.kriging.sitting_amplitude == chosen.kriging.sitting_amplitude
    without = select(settings, method, untimed(nodes), run_rounds, OPEN_SUM).record
    assert without is not None
    others = [trial for trial in selection.trials if trial.setting != "time_factor"]
    assert without.trials == others
    assert without.deviation_scale == selection.deviation_scale
