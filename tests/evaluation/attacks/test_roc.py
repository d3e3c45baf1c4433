"""ROC curves, areas and their intervals: closed forms, scikit-learn, SciPy and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearns_curve

from hierfed.evaluation.attacks.roc import area_of_few, clustered_area, rank_p_value, roc_curve

scored = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({inside for _, inside in rows}) == 2
)


def columns(rows):
    scores, member = zip(*rows, strict=True)
    return np.array(scores, np.float64), np.array(member)


def normals(members, others, distance, seed):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(distance, 1, members), rng.normal(0, 1, others)])
    return scores, np.arange(members + others) < members


@settings(max_examples=80, deadline=None)
@given(scored)
def test_areas_with_ties_are_scikit_learns(rows):
    scores, member = columns(rows)
    expected = roc_auc_score(member, scores)
    assert clustered_area(scores, member, np.arange(len(scores))).value == pytest.approx(expected, abs=1e-12)
    assert area_of_few(scores, member).value == pytest.approx(expected, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(scored)
def test_curves_with_ties_are_scikit_learns(rows):
    scores, member = columns(rows)
    false, true, _ = sklearns_curve(member, scores, drop_intermediate=False)
    curve = roc_curve(scores, member)
    np.testing.assert_allclose(curve.false_positive, false, atol=1e-12)
    np.testing.assert_allclose(curve.true_positive, true, atol=1e-12)


def test_the_area_of_two_normals_has_its_closed_form():
    scores, member = normals(20_000, 30_000, 1.0, 1)
    area = clustered_area(scores, member, np.arange(len(scores)))
    assert area.value == pytest.approx(ndtr(1 / np.sqrt(2)), abs=0.005)
    assert area.low < ndtr(1 / np.sqrt(2)) < area.high


def test_true_positives_at_few_false_ones_have_their_closed_form():
    scores, member = normals(50_000, 50_000, 2.0, 2)
    expected = ndtr(2 + -2.3263478740408408)  # a threshold that 1% of the standard normal lie above
    assert roc_curve(scores, member).true_positive_at(0.01) == pytest.approx(expected, abs=0.012)


def test_true_positives_are_counted_without_exceeding_the_false_ones():
    curve = roc_curve(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False]))
    assert [curve.true_positive_at(rate) for rate in (0.0, 0.49, 0.5, 1.0)] == [0.5, 0.5, 1.0, 1.0]


def test_singletons_have_delongs_variance():
    scores, member = normals(40, 60, 0.8, 3)
    beats = (scores[member][:, None] > scores[~member][None, :]).astype(float)
    variance = beats.mean(1).var(ddof=1) / 40 + beats.mean(0).var(ddof=1) / 60
    area = clustered_area(scores, member, np.arange(100))
    assert area.high - area.low == pytest.approx(2 * 1.959963984540054 * np.sqrt(variance), rel=1e-12)


def test_clusters_widen_the_interval_as_a_bootstrap_of_clusters_does():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(150), 8)
    member = rng.random(len(cluster)) < 0.5
    scores = 0.4 * member + rng.normal(0, 1, 150)[cluster] * (2 * member - 1) + rng.normal(0, 0.5, len(cluster))
    area = clustered_area(scores, member, cluster)
    found = []
    for _ in range(400):
        rows = (8 * rng.integers(150, size=150)[:, None] + np.arange(8)).ravel()
        found.append(roc_auc_score(member[rows], scores[rows]))
    assert (area.high - area.low) / (2 * 1.96) == pytest.approx(np.std(found), rel=0.12)
    alone = clustered_area(scores, member, np.arange(len(scores)))
    assert area.high - area.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.5])
def test_intervals_of_few_scores_hold_as_often_as_they_say(distance):
    truth = ndtr(distance / np.sqrt(2))
    areas = [area_of_few(*normals(16, 16, distance, 100 + seed)) for seed in range(400)]
    held = np.mean([area.low <= truth <= area.high for area in areas])
    assert 0.92 <= held <= 0.99


def test_intervals_of_few_scores_keep_a_width_where_every_guess_is_right():
    areas = [area_of_few(*normals(count, count, 100.0, 5)) for count in (8, 16, 32)]
    assert [(area.value, area.high) for area in areas] == [(1.0, 1.0)] * 3
    # The root of 1 - x = z^2 x bracket(x) / n^2, found by trying a fine grid.
    for count, area in zip((8, 16, 32), areas, strict=True):
        x = np.linspace(0.5, 1 - 1e-6, 1_000_001)
        bracket = 1 + (count - 1) * ((1 - x) / (2 - x) + x / (1 + x))
        root = x[np.argmin(np.abs(1 - x - 1.959963984540054**2 * x * bracket / count**2))]
        assert area.low == pytest.approx(root, abs=1e-5)
    assert areas[0].low < areas[1].low < areas[2].low < 1


def test_intervals_of_few_scores_mirror_when_scores_do():
    scores, member = normals(10, 14, 1.3, 6)
    area, mirrored = area_of_few(scores, member), area_of_few(-scores, member)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((1 - area.value, 1 - area.high, 1 - area.low))


@settings(max_examples=80, deadline=None)
@given(scored)
def test_the_p_value_equals_scipys(rows):
    scores, member = columns(rows)
    if len(set(scores.tolist())) == 1:
        assert rank_p_value(scores, member) == 1.0
        return
    expected = mannwhitneyu(scores[member], scores[~member], alternative="greater", method="asymptotic").pvalue
    assert rank_p_value(scores, member) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("judge", [roc_curve, area_of_few, rank_p_value])
def test_both_kinds_are_needed(judge):
    with pytest.raises(ValueError, match="3 of 3 scores are of members"):
        judge(np.arange(3.0), np.ones(3, bool))
