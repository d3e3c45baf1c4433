"""Results of the version before, which held no words, are reported with those of their method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hierfed.errors import HierfedError
from hierfed.evaluation.summary import summarise
from hierfed.methods import METHODS
from hierfed.results import Result, Summary, write_record
from hierfed.runs.reports import rewrite_report

LATER = {"words", "metrics", "federation"}
FIXTURES = {"averaging": "result", "hierarchical": "hierarchical", "local": "local", "private_prior": "hierarchical"}
LEADS = {
    "averaging": "8 nodes trained one model in 10 rounds without pooling their ratings; 8 nodes made it their own.",
    "hierarchical": "8 nodes learned one hierarchical model in 50 rounds by sending sums",
    "local": "every user learned alone",
    "private_prior": "8 nodes learned a prior in 50 rounds with differential privacy for whole users",
}


def write_former(result: Result, path: Path, settings: dict[str, Any]) -> None:
    """Write a result as the version before did."""
    path.parent.mkdir(exist_ok=True, parents=True)
    found = json.loads(result.model_dump_json(exclude=LATER)) | {"settings": settings}
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("method", LEADS)
def test_a_former_result_of_each_method_is_reported(
    method: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    result: Result = request.getfixturevalue(FIXTURES[method])
    write_former(result, tmp_path / "result.json", {"method": method})
    read = rewrite_report(tmp_path)
    assert isinstance(read, Result)
    assert read.words == METHODS[method].words()
    assert LEADS[method] in (tmp_path / "report.html").read_text().replace("&#39;", "'")


def test_a_former_result_that_names_no_method_is_one_of_averaging(result: Result, tmp_path: Path) -> None:
    write_former(result, tmp_path / "result.json", {})
    assert rewrite_report(tmp_path).words == METHODS["averaging"].words()


def test_former_seeds_are_summarised_again(result: Result, tmp_path: Path) -> None:
    found = summarise("x", [result]).model_dump(mode="json", exclude={"words"}) | {"method": "averaging"}
    (tmp_path / "summary.json").write_text(json.dumps(found))
    write_former(result, tmp_path / "seed-0" / "result.json", {"method": "averaging"})
    summary = rewrite_report(tmp_path)
    assert isinstance(summary, Summary)
    assert summary.words == METHODS["averaging"].words()
    assert json.loads((tmp_path / "summary.json").read_text())["words"]["shared_short"] == "Global model"


@pytest.mark.parametrize("method", ["hierarchicl", "new\x1b[2J", 7, "", None, []])
def test_a_method_that_there_is_not_is_one_line(result: Result, tmp_path: Path, method: Any) -> None:
    write_former(result, tmp_path / "result.json", {"method": method})
    with pytest.raises(HierfedError, match="no method") as refused:
        rewrite_report(tmp_path)
    assert str(refused.value).isprintable()
    assert str(tmp_path / "result.json") in str(refused.value)


def test_a_result_brings_the_words_of_a_method_that_is_not_known_here(result: Result, tmp_path: Path) -> None:
    words = result.words.model_copy(update={"shared": "Toy model [/]"})
    settings = {**result.settings, "method": "toy"}
    write_record(result.model_copy(update={"words": words, "settings": settings}), tmp_path / "result.json")
    rewrite_report(tmp_path)
    assert "Toy model [/]" in (tmp_path / "report.html").read_text()
