"""A metric and a figure are one line each; report and evaluation know no method by its name."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Canvas

import hierfed
from hierfed.evaluation.metrics import METRICS, Metric, over_nodes, with_metrics
from hierfed.evaluation.summary import compare, summarise
from hierfed.methods import METHODS
from hierfed.report.figures import FIGURES, Figure
from hierfed.report.page import write_summary_page
from hierfed.report.style import blank, fit
from hierfed.report.tables import Table
from hierfed.report.terminal import comparison_table, result_tables, summary_table
from hierfed.results import Result, write_record
from tests.report.test_page import Page, page_of, quick_page
from tests.report.test_terminal import cells, rendered

PACKAGE = Path(hierfed.__file__).parent
KNOWS_NO_METHOD = sorted([*(PACKAGE / "report").rglob("*.py"), *(PACKAGE / "evaluation").rglob("*.py")])


def literals(source: str) -> set[str]:
    """Every text that stands in a program, parts of formatted ones too."""
    nodes = ast.walk(ast.parse(source))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("path", KNOWS_NO_METHOD, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_of_report_or_evaluation_names_a_method(path: Path) -> None:
    assert not literals(path.read_text(encoding="utf-8")) & METHODS.keys()


def test_a_method_s_name_would_be_found() -> None:
    assert len(KNOWS_NO_METHOD) > 20
    for source in (
        'x = {"local": 1}',
        "if y == 'averaging': pass",
        'z = f"{a}hierarchical"',
        'match b:\n case "private_prior": pass',
    ):
        assert literals(source) & METHODS.keys()


@pytest.mark.parametrize("page", ["run.html", "seeds.html"])
def test_no_template_names_a_method(page: str) -> None:
    """Words of templates are between quotation marks where they are compared."""
    text = (PACKAGE / "report" / "templates" / page).read_text(encoding="utf-8")
    assert not [name for name in METHODS if f'"{name}"' in text or f"'{name}'" in text]


@pytest.fixture
def median(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """A metric more: the RMSE of the worst node, by which presets are compared."""
    metric = Metric("Worst node, $last", 3, lambda result: over_nodes(result, "rmse_after", max), "worst", paired=True)
    monkeypatch.setitem(METRICS, "worst_node", metric)
    return metric


def test_a_new_metric_is_in_result_table_and_page(
    median: Metric, result: Result, folder_with_figures: Path, tmp_path: Path
) -> None:
    worst = max(node.rmse_after for node in result.nodes)
    write_record(with_metrics(result), tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["metrics"]["worst_node"] == worst
    row = ["Worst node, held-out rows", f"{worst:.3f}"]
    assert cells(rendered(result_tables(result)), row[0]) == [row]
    assert quick_page(result, folder_with_figures).row(row[0]) == row


def test_a_new_metric_is_in_summary_comparison_and_their_tables(
    median: Metric, make_result: Callable[..., Result], tmp_path: Path
) -> None:
    results = [make_result(seed=seed) for seed in range(3)]
    others = [make_result(seed=seed + 10) for seed in range(3)]
    worst = [max(node.rmse_after for node in each.nodes) for each in results]
    summary = summarise("mine", results)
    write_record(summary, tmp_path / "summary.json")
    found = json.loads((tmp_path / "summary.json").read_text())["figures"]["worst_node"]
    assert found["mean"] == pytest.approx(sum(worst) / 3)
    row = ["Worst node, held-out rows", f"{sum(worst) / 3:.3f}"]
    assert cells(rendered(summary_table(summary)), row[0])[0][:2] == row
    assert Page(write_summary_page(summary, results, tmp_path)).row(row[0])[:2] == row
    differences = compare({"a": results, "b": others})
    assert ("a: worst_node", "b: worst_node") in [(each.first, each.second) for each in differences]
    text = rendered(comparison_table({"a": summary, "b": summarise("b", others)}, differences))
    assert "worst" in text
    assert f"{sum(worst) / 3:.4f}" in " ".join(cells(text, "a")[0])


def test_recall_of_lists_is_in_result_table_and_page(
    hierarchical: Result, folder_with_figures: Path, tmp_path: Path
) -> None:
    write_record(with_metrics(hierarchical), tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["metrics"]["recall@20"] == 0.2483
    row = ["Recall@20 of recommendation lists", "0.2483"]
    assert cells(rendered(result_tables(hierarchical)), row[0]) == [row]
    assert quick_page(hierarchical, folder_with_figures).row(row[0]) == row


def draw(result: Result, headline: str) -> Canvas:
    canvas, (panel,) = blank(headline, "a line", 2.0)
    panel.plot([1, 2], [1, len(result.nodes)])
    return fit(canvas)


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Nothing else is drawn."""
    kept = dict(FIGURES)
    FIGURES.clear()
    yield
    FIGURES.clear()
    FIGURES.update(kept)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("applies", [True, False])
def test_a_new_figure_is_drawn_and_shown_where_it_applies(
    applies: bool, monkeypatch: pytest.MonkeyPatch, result: Result, tmp_path: Path
) -> None:
    new = Figure(draw, lambda _: "The finding", "How to read it", lambda _: applies)
    monkeypatch.setitem(FIGURES, "new", new)
    page = page_of(result, tmp_path)
    assert ("How to read it" in page.text) is applies
    assert ("The finding" in [image["alt"] for image in page.all("img")]) is applies
    assert (tmp_path / "figures" / "new.png").is_file() is applies


@pytest.mark.usefixtures("no_figures")
def test_a_new_figure_s_table_is_on_page_and_terminal(
    monkeypatch: pytest.MonkeyPatch, result: Result, tmp_path: Path
) -> None:
    table = Table("Its numbers", ("Name", "Number"), [("one", "1.5")])
    new = Figure(draw, lambda _: "The finding", "...", lambda _: True, section="A section", table=lambda _: table)
    monkeypatch.setitem(FIGURES, "new", new)
    page = page_of(result, tmp_path)
    assert "A section" in page.text
    assert page.row("one") == ["one", "1.5"]
    assert cells(rendered(result_tables(result)), "one") == [["one", "1.5"]]


def test_a_method_says_how_to_read_a_figure_of_it(result: Result, folder_with_figures: Path) -> None:
    words = result.words.model_copy(update={"captions": {"user_gain": "Of this method alone."}})
    of_method = result.model_copy(update={"words": words})
    assert "Of this method alone." in quick_page(of_method, folder_with_figures).text
