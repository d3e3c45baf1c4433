"""Results as tables: every form has the numbers of the result."""

from __future__ import annotations

import polars as pl
import pytest

import hierfed
from hierfed.evaluation.metrics import with_metrics
from hierfed.evaluation.summary import summarise
from hierfed.exports import Tabular
from hierfed.results import Result


@pytest.fixture(scope="module")
def result() -> Result:
    return with_metrics(hierfed.run("item_biases", data="embedded", protocol="warm", nodes=2).result)


def test_a_result_is_a_frame_of_its_metrics(result):
    frame = result.to_frame()
    assert dict(frame.iter_rows()) == result.metrics
    assert frame.schema == {"metric": pl.String, "value": pl.Float64}


def test_a_summary_is_a_frame_of_its_figures(result):
    summary = summarise("mine", [result, result])
    frame = summary.to_frame()
    assert frame.columns == ["metric", "mean", "sd", "min", "max"]
    row = frame.row(by_predicate=pl.col("metric") == "rmse_after", named=True)
    assert row["mean"] == pytest.approx(result.users.rmse_after)
    assert row["sd"] == 0


class Odd(Tabular):
    """Names that would break LaTeX and HTML."""

    def rows(self):
        return [{"a_b": "50% <b>&\\", "value": 1.23456}]

    def heading(self):
        return "x < y"


def test_latex_escapes_what_it_must():
    assert Odd().to_latex(2) == (
        "\\begin{tabular}{lr}\n\\toprule\na\\_b & value \\\\\n\\midrule\n"
        "50\\% <b>\\&\\textbackslash{} & 1.23 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


def test_notebooks_show_escaped_text():
    shown = Odd()._repr_html_()
    assert "<caption>x &lt; y</caption>" in shown
    assert "<td>50% &lt;b&gt;&amp;\\</td><td>1.2346</td>" in shown
