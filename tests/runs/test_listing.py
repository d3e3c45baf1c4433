"""Runs that exist, listed and compared as people see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hierfed.cli import app
from hierfed.experiment import run_experiment
from hierfed.generated.files import write_world
from hierfed.results import Result
from hierfed.runs.folder import seed_folder
from hierfed.runs.reports import save_run, save_summary
from hierfed.settings import load_settings


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of `local`, two of `item_biases` with another threshold, one run on other rows, and a damaged one."""
    place = tmp_path_factory.mktemp("listing")
    for name, seed in (("world", 1), ("other", 2)):
        write_world(place / name, users=30, items=40, ratings=700 + seed, seed=seed)

    def run(label: str, preset: str, world: str, seeds: tuple[int, ...], **changes: Any) -> None:
        results = []
        for seed in seeds:
            asked = {"data.source": str(place / world), "protocol": "warm", "seed": seed, "nodes": 2, **changes}
            outcome = run_experiment(load_settings(preset, asked))
            results.append(save_run(outcome, seed_folder(place / "runs" / label, seed)))
        save_summary(results, place / "runs" / label)

    run("alone", "local", "world", (0, 1))
    run("biases", "item_biases", "world", (1, 2), min_raters=2)
    run("elsewhere", "local", "other", (0,))
    (place / "runs" / "broken").mkdir()
    (place / "runs" / "broken" / "result.json").write_text("{")
    return place / "runs"


def result_of(folder: Path) -> Result:
    return Result.model_validate_json((folder / "result.json").read_text(encoding="utf-8"))


def test_runs_are_listed_with_their_figures_and_differences(out):
    done = CliRunner().invoke(app, ["runs", "--out", str(out), "--json"])
    assert done.exit_code == 0
    listed = {Path(run["folder"]).name: run for run in json.loads(done.stdout)}
    assert list(listed) == ["alone", "biases", "broken", "elsewhere"]
    assert "not a result of hierfed" in listed["broken"]["problem"]
    of_seeds = [result_of(out / "alone" / f"seed-{seed}").users.rmse_after for seed in (0, 1)]
    assert listed["alone"]["figures"]["rmse_after"] == pytest.approx(sum(of_seeds) / 2)
    assert listed["biases"]["differs"]["factors.min_raters"] == 2
    assert listed["alone"]["differs"]["factors.min_raters"] != 2
    assert "protocol" not in str(listed["alone"]["differs"])
    text = CliRunner().invoke(app, ["runs", "--out", str(out)], env={"COLUMNS": "100"}).stdout
    assert "factors.min_raters=2" in text
    assert "2 seeds" in text


def test_a_place_without_runs_says_so(tmp_path):
    done = CliRunner().invoke(app, ["runs", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert "no run there" in done.stdout


def test_runs_that_exist_are_compared_on_the_seeds_that_they_share(out, tmp_path):
    both = [str(out / "alone"), str(out / "biases")]
    done = CliRunner().invoke(app, ["compare", *both, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert {label: each["seeds"] for label, each in found["summaries"].items()} == {"alone": [1], "biases": [1]}
    (row,) = [each for each in found["differences"] if each["first"] == "alone: rmse_after"]
    one, other = (result_of(out / name / "seed-1").users.rmse_after for name in ("alone", "biases"))
    assert row["mean"] == pytest.approx(one - other)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        (["elsewhere"], "their rows are not the same"),
        (["local"], "'local' is no run that exists"),
        ([], "two or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(out, tmp_path, others, reason):
    named = [str(out / name) if (out / name).exists() else name for name in others]
    done = CliRunner().invoke(app, ["compare", str(out / "alone"), *named, "--out", str(tmp_path)])
    assert done.exit_code != 0
    assert reason in str(done.exception) + done.stderr
