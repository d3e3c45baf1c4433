"""Units of other scales, cautious p-values, curves that were better before, figures for papers, and comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy.stats import false_discovery_control

from hierfed.evaluation.summary import compare, summarise, with_holm
from hierfed.report import contents, words
from hierfed.report.figures import FIGURES, all_figures, save_for_papers
from hierfed.report.key_numbers import key_numbers
from hierfed.report.page import write_comparison_page
from hierfed.report.seeds import caution
from hierfed.results import PairedDifference, Result

MakeResult = Callable[..., Result]


def on_scale(result: Result, *scale: float) -> Result:
    return result.model_copy(update={"data": result.data.model_copy(update={"scale": list(scale)})})


@pytest.mark.parametrize(
    ("scale", "unit"),
    [
        ((0.5, 5.0), "stars"),
        ((1.0, 5.0), "stars"),
        ((0.0, 5.0), "stars"),
        ((1.0, 10.0), "points"),
        ((0.0, 100.0), "points"),
        ((-10.0, 10.0), "points"),
        ((-5.0, 5.0), "points"),
        ((), "points"),
    ],
)
def test_stars_are_said_of_scales_of_stars_alone(hierarchical: Result, scale: tuple[float, ...], unit: str) -> None:
    result = on_scale(hierarchical, *scale)
    assert words.unit(result) == unit
    texts = [text for _, _, text in key_numbers(result)] + [contents.interval_sentence(result)]
    for figure in all_figures(result).values():
        texts += [label for panel in figure.axes for label in (panel.get_xlabel(), panel.get_ylabel())]
    other = {"stars": "points", "points": "stars"}[unit]
    assert not [text for text in texts if other in text]
    assert sum(unit in text for text in texts) >= 6


def difference(p_value: float | None) -> PairedDifference:
    return PairedDifference(first="a", second="b", mean=0.1, sd=0.1, p_value=p_value)


def test_holms_correction_is_that_of_his_paper() -> None:
    given = [0.01, None, 0.04, 0.03, 0.005]
    # By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 is raised to the one before.
    assert [each.p_holm for each in with_holm([difference(p) for p in given])] == pytest.approx(
        [0.03, None, 0.06, 0.06, 0.02]
    )
    assert with_holm([difference(0.7), difference(0.9)])[0].p_holm == 1.0
    # Never below the raw value, nor below the less strict control of the false discovery rate.
    raw = [0.2, 0.001, 0.03, 0.5, 0.011]
    holm = [each.p_holm or 0.0 for each in with_holm([difference(p) for p in raw])]
    assert all(h >= max(p, d) - 1e-12 for h, p, d in zip(holm, raw, false_discovery_control(raw), strict=True))


def test_p_values_of_few_seeds_are_told_with_a_caution(make_result: MakeResult) -> None:
    for seeds, cautious in ((1, False), (2, True), (4, True), (5, False)):
        shifts = [0.01, 0.02, 0.015, 0.03, 0.02]
        results = [
            make_result(seed=seed, users=20).model_copy(
                update={"users": make_result(seed=seed).users.model_copy(update={"rmse_after": 1.0 - shifts[seed]})}
            )
            for seed in range(seeds)
        ]
        told = " ".join(summarise("mine", results).verdict)
        assert (f"p-values from {seeds} seeds" in told) == cautious == bool(caution(seeds))


def test_a_difference_that_many_tests_would_find_by_chance_is_not_called_significant() -> None:
    alone = with_holm([difference(0.03)])
    among = with_holm([difference(0.03), *[difference(0.5)] * 9])
    assert (alone[0].p_holm, among[0].p_holm) == (0.03, pytest.approx(0.3))


@pytest.mark.parametrize(("errors", "told"), [((1.0, 0.9, 0.99), True), ((1.0, 0.95, 0.9), False), ((0.9,), False)])
def test_a_curve_that_was_better_before_is_told_as_such(result: Result, errors: tuple[float, ...], told: bool) -> None:
    rounds = [
        result.rounds[0].model_copy(update={"round": number, "global_rmse": error})
        for number, error in enumerate(errors, 1)
    ]
    headline = FIGURES["global_rmse"](result.model_copy(update={"rounds": rounds})).get_suptitle().replace("\n", " ")
    assert ("it was best after round 2, 0.9000" in headline) == told
    assert f"RMSE {errors[-1]:.4f}" in headline


def test_a_figure_in_which_nothing_moved_is_left_out(result: Result) -> None:
    still = [node.model_copy(update={"weight_change_l2": 0.0}) for node in result.nodes]
    assert "weight_change" in all_figures(result)
    assert "weight_change" not in all_figures(result.model_copy(update={"nodes": still}))


def test_labels_of_64_nodes_are_as_large_as_those_of_8(make_result: MakeResult, drawn_texts: Any) -> None:
    few, many = (FIGURES["node_rmse"](make_result(nodes=nodes)) for nodes in (8, 64))
    sizes = []
    for figure in (few, many):
        drawn_texts(figure)
        labels = figure.axes[0].get_yticklabels()
        sizes.append({label.get_fontsize() for label in labels})
        boxes = [label.get_window_extent() for label in labels]
        assert all(below.y1 - above.y0 <= 0.1 * above.height for above, below in pairwise(boxes))
    assert sizes[0] == sizes[1] == {8.5}
    assert len(many.axes[0].get_yticklabels()) == 64


def test_figures_for_papers_have_live_text_and_can_be_without_headline(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {name: figure for name, figure in FIGURES.items() if name == "user_gain"}
    monkeypatch.setattr("hierfed.report.figures.FIGURES", one)
    headline = FIGURES["user_gain"].headline(result)
    for titled in (True, False):
        folder = tmp_path / str(titled)
        (svg,) = save_for_papers(result, folder, "svg", titled)
        text = " ".join(
            element.text or "" for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
        )
        assert "Gain in RMSE (stars)" in text
        assert (headline in text) == titled
        assert "Each user's RMSE before minus after" in text
    pdf = save_for_papers(result, tmp_path / "pdf", "pdf", True)[0].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf or b"/Type42" in pdf or b"/TrueType" in pdf
    assert save_for_papers(result, tmp_path / "again", "pdf", True)[0].read_bytes() == pdf


def test_a_comparison_has_a_page_with_links_differences_and_verdicts(make_result: MakeResult, tmp_path: Path) -> None:
    results = {
        label: [make_result(seed=seed, name=f"seed-{seed}") for seed in range(first, first + 3)]
        for label, first in (("paper", 0), ("<script>", 7))
    }
    summaries = {label: summarise(label, each) for label, each in results.items()}
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/report.html").write_text("")
    page = write_comparison_page("both", summaries, compare(results), tmp_path).read_text()
    assert '<a href="paper/report.html">paper</a>' in page
    assert "<script>" not in page
    assert "p by Holm" in page
    assert "p-values from 3 seeds say little" in page
    assert not re.search(r"https?://|\bnan\b", page)
    for sentence in summaries["paper"].verdict:
        assert sentence.replace("'", "&#39;") in page
