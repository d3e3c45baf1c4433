"""Several seeds: means and spreads by NumPy, paired tests by SciPy, words that follow the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from hierfed.evaluation.summary import compare, paired, spread, summarise
from hierfed.methods import METHODS
from hierfed.results import (
    Baselines,
    DataSummary,
    JoinSummary,
    NodeRecord,
    Result,
    RoundRecord,
    Seconds,
    UserSummary,
    Verdict,
)

GLOBAL = (1.06, 1.05, 1.09, 1.07)
BEFORE = (1.05, 1.03, 1.07, 1.10)
AFTER = (1.01, 1.02, 1.03, 1.08)
HARMED = (0, 2, 1, 0)


def filled(kind: type, **given: Any) -> Any:
    """A record whose figures are 1 where they are not given."""
    return kind(**(dict.fromkeys(kind.model_fields, 1) | given))


def result(seed: int, final: float, before: float, after: float, harmed: int, preset: str = "paper") -> Result:
    join = JoinSummary(name="links", kept=1, kept_before_deduplication=1, dropped=0)
    data = filled(
        DataSummary,
        source="",
        dropped={},
        join=join,
        features=[],
        missing_features=[],
        protocol="warm",
        split={},
        warnings=[],
        scale=[],
    )
    verdict = Verdict(
        beats_global_mean=False,
        beats_biases=False,
        personal_beats_biases=False,
        gain_mean=before - after,
        gain_sd=0.0,
        p_value=None,
        nodes_harmed=harmed,
        users_harmed=10 * harmed,
        words=[],
    )
    return Result(
        name=preset,
        preset=preset,
        seed=seed,
        settings={},
        words=METHODS["averaging"].words(),
        data=data,
        rounds=[filled(RoundRecord, train_loss=[1.0], global_rmse=rmse) for rmse in (9.0, final)],
        nodes=[
            filled(NodeRecord, node="1", train_gain=0.1, weight_change_l2=3.0 + seed),
            filled(NodeRecord, node="2", train_gain=0.3, weight_change_l2=5.0 + seed),
            filled(NodeRecord, node="3", train_gain=float("nan"), weight_change_l2=4.0),
        ],
        users=filled(UserSummary, rmse_before=before, rmse_after=after, gains=[0.0]),
        baselines=filled(Baselines, global_mean=1.05 + seed / 1000, biases=0.95 + seed / 500),
        personal_baselines=filled(Baselines, biases=1.2 - seed / 100),
        verdict=verdict,
        digest="",
        seconds=filled(Seconds, total=2.0 + seed),
    )


def results(shift: float = 0.0, preset: str = "paper", seeds: int = 4) -> list[Result]:
    figures = list(zip(GLOBAL, BEFORE, AFTER, HARMED, strict=True))[:seeds]
    return [
        result(seed, final + shift, before + shift, after + shift, harmed, preset)
        for seed, (final, before, after, harmed) in enumerate(figures)
    ]


def assert_difference(found: Any, left: Sequence[float], right: Sequence[float]) -> None:
    difference = np.array(left) - np.array(right)
    assert found.mean == pytest.approx(difference.mean(), abs=1e-12)
    assert found.sd == pytest.approx(np.std(difference, ddof=1), abs=1e-12)
    assert found.p_value == pytest.approx(ttest_rel(left, right).pvalue, rel=1e-9)


def test_a_spread_is_mean_standard_deviation_and_extremes():
    found = spread([2.0, 4.0, 4.0, 6.0])
    assert (found.mean, found.min, found.max) == (4.0, 2.0, 6.0)
    assert found.sd == pytest.approx((8 / 3) ** 0.5)
    assert spread([3.0]).sd == 0


def test_a_paired_difference_is_first_less_second_with_its_test():
    found = paired("a", "b", [1.0, 2.0, 4.0], [0.5, 2.5, 2.0])
    assert (found.first, found.second) == ("a", "b")
    assert_difference(found, [1.0, 2.0, 4.0], [0.5, 2.5, 2.0])
    assert paired("a", "b", [1.0], [2.0]).p_value is None


def test_every_figure_is_summarised_over_the_seeds():
    found = summarise("mine", results())
    assert (found.name, found.preset, found.seeds) == ("mine", "paper", [0, 1, 2, 3])
    expected = {
        "global_rmse": GLOBAL,
        "rmse_before": BEFORE,
        "rmse_after": AFTER,
        "gain_per_node": np.array(BEFORE) - AFTER,
        "gain_on_tuned_rows": [0.2] * 4,
        "nodes_harmed": HARMED,
        "users_harmed": [0, 20, 10, 0],
        "weight_change_smallest": [3.0, 4.0, 4.0, 4.0],
        "weight_change_largest": [5.0, 6.0, 7.0, 8.0],
        "seconds": [2.0, 3.0, 4.0, 5.0],
        "baseline_global_mean": [1.05, 1.051, 1.052, 1.053],
        "personal_baseline_biases": [1.2, 1.19, 1.18, 1.17],
    }
    for name, values in expected.items():
        figure = found.figures[name]
        assert figure.mean == pytest.approx(np.mean(values), abs=1e-12), name
        assert figure.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12), name
        assert (figure.min, figure.max) == pytest.approx((min(values), max(values)), abs=1e-12), name


def test_differences_pair_the_seeds():
    named = {(each.first, each.second): each for each in summarise("mine", results()).differences}
    assert_difference(named["global_rmse", "baseline_global_mean"], GLOBAL, [1.05, 1.051, 1.052, 1.053])
    assert_difference(named["global_rmse", "baseline_biases"], GLOBAL, [0.95, 0.952, 0.954, 0.956])
    assert_difference(named["rmse_after", "rmse_before"], AFTER, BEFORE)
    assert_difference(named["rmse_after", "personal_baseline_biases"], AFTER, [1.2, 1.19, 1.18, 1.17])
    rivals = set(Baselines.model_fields)
    assert {second for first, second in named if first == "global_rmse"} == {f"baseline_{name}" for name in rivals}


def test_the_words_follow_the_mean_differences():
    found = summarise("mine", results())
    words = found.verdict
    assert words[0].startswith("The global model does not beat predicting the mean: RMSE +0.0160")
    assert words[1].startswith("The global model does not beat user and item biases: RMSE +0.1145")
    assert words[2].startswith("Personalisation beats the global model alone: RMSE -0.0275")
    assert words[3].startswith("The personalised model beats user and item biases: RMSE -0.1500")
    assert words[4] == "3 of 12 nodes harmed over 4 seeds."
    assert words[5] == "p-values from 4 seeds, by Holm's correction, say little: run 5 or more."
    p_value = ttest_rel(AFTER, BEFORE).pvalue
    tests = sorted(each.p_value for each in found.differences if each.p_value is not None)
    corrected = max((len(tests) - rank) * p for rank, p in enumerate(tests) if p <= p_value + 1e-12)
    chance = "" if corrected < 0.05 else " (not significant)"
    assert f", p = {min(corrected, 1.0):.2g}{chance}." in words[2]
    assert "The global model beats predicting the mean" in summarise("better", results(shift=-0.05)).verdict[0]


def test_one_seed_has_no_p_value_in_its_words():
    found = summarise("mine", results(seeds=1))
    assert all("p =" not in sentence for sentence in found.verdict)
    assert all(each.p_value is None for each in found.differences)


def test_presets_are_compared_pair_by_pair_on_the_same_seeds():
    others = [result(seed, 0.9, 0.8 + seed / 7, 0.7 + seed / 9, 0, "network") for seed in range(4)]
    third = results(shift=0.5)[::-1]
    found = compare({"paper": results(), "network": others, "third": third})
    names = [("paper", "network"), ("paper", "third"), ("network", "third")]
    expected = [(f"{a}: {key}", f"{b}: {key}") for key in ("global_rmse", "rmse_after") for a, b in names]
    assert [(each.first, each.second) for each in found] == expected
    assert_difference(found[0], GLOBAL, [0.9] * 4)
    assert_difference(found[3], AFTER, [0.7 + seed / 9 for seed in range(4)])
    assert_difference(found[1], GLOBAL, [rmse + 0.5 for rmse in GLOBAL[::-1]])
