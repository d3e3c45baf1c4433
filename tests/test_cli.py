"""The command line: what each command prints and leaves."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli_folders import (
    SETS,
    SMALL,
    assert_refused,
    made,
    small_ratings,
    strict_json,
    write_folder,
    write_metadata,
)
from tests.commands import Finished, Hierfed
from tests.forked import Parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("data") / "ml")


@pytest.mark.figures
def test_run_trains_prints_tables_and_leaves_a_report(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("run", "network", "--data", folder, *SMALL)
    assert found.code == 0, found.err
    assert "\x1b" not in found.out + found.err
    assert max(map(len, found.out.splitlines())) <= 80
    assert "runs/network/report.html" in found.out
    result = strict_json((tmp_path / "runs" / "network" / "result.json").read_text())
    assert f"{result['users']['rmse_after']:.4f}" in found.out
    assert result["verdict"]["words"][0] in " ".join(found.out.split())
    assert len(result["rounds"]) == 1
    assert "round 1/1" in found.err
    assert f"RMSE {result['rounds'][0]['global_rmse']:.4f}" in found.err


def test_a_second_run_does_not_touch_the_first(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert hierfed("run", "network", "--data", folder, "--quiet", "--name", "x", *SMALL).code == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["x", "x-2"]
    digests = {strict_json((tmp_path / "runs" / name / "result.json").read_text())["digest"] for name in names}
    assert len(digests) == 1


def test_quiet_prints_nothing(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("run", "network", "--data", folder, "--quiet", "--out", "elsewhere", *SMALL)
    assert (found.code, found.out, found.err) == (0, "", "")
    assert (tmp_path / "elsewhere" / "network" / "report.html").is_file()


def test_json_is_the_result_and_nothing_else(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("run", "network", "--data", folder, "--json", "--seed", "3", *SMALL)
    assert (found.code, found.err) == (0, "")
    result = strict_json(found.out)
    assert result == strict_json((tmp_path / "runs" / "network" / "result.json").read_text())
    assert result["seed"] == 3
    assert result["settings"]["training"]["rounds"] == 1


def test_several_seeds_have_a_folder_each_and_a_summary(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("run", "network", "--data", folder, "--seeds", "2", "--seed", "5", *SMALL)
    assert found.code == 0, found.err
    run = tmp_path / "runs" / "network"
    summary = strict_json((run / "summary.json").read_text())
    assert summary["seeds"] == [5, 6]
    seeds = [strict_json((run / f"seed-{seed}" / "result.json").read_text())["seed"] for seed in (5, 6)]
    assert seeds == [5, 6]
    assert f"{summary['figures']['global_rmse']['mean']:.4f}" in found.out
    assert (run / "report.html").is_file()
    # The seeds' reports are written again from their results, and so is the summary's.
    (run / "report.html").unlink()
    again = hierfed("report", "runs/network")
    assert again.code == 0
    assert (run / "report.html").is_file()


def test_several_seeds_as_json_are_the_summary(hierfed: Hierfed, folder: str) -> None:
    found = hierfed("run", "network", "--data", folder, "--seeds", "2", "--json", *SMALL)
    assert (found.code, found.err) == (0, "")
    assert strict_json(found.out)["seeds"] == [0, 1]


def test_settings_that_a_run_left_behind_repeat_it(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    first = strict_json(hierfed("run", "network", "--data", folder, "--json", "--seed", "3", *SMALL).out)
    settings = str(tmp_path / "runs" / "network" / "settings.toml")
    again = strict_json(hierfed("run", settings, "--json").out)
    assert again["digest"] == first["digest"]


def test_report_draws_again_what_was_deleted(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    assert hierfed("run", "network", "--data", folder, "--quiet", *SMALL).code == 0
    figure = tmp_path / "runs" / "network" / "figures" / "global_rmse.png"
    before = figure.read_bytes()
    figure.unlink()
    found = hierfed("report", "runs/network")
    assert found.code == 0
    assert figure.read_bytes() == before
    assert "runs/network/report.html" in found.out


def test_presets_are_listed_with_what_they_are(hierfed: Hierfed) -> None:
    found = hierfed("presets")
    assert (found.code, found.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in found.out.splitlines())
    assert {"network", "paper"} <= lines.keys()
    assert all(len(text) > 10 for text in lines.values())


def test_all_settings_of_a_preset_are_valid_toml(hierfed: Hierfed) -> None:
    found = hierfed("presets", "--settings", "paper")
    assert (found.code, found.err) == (0, "")
    settings = tomllib.loads(found.out)
    expected = {"hidden": [128, 64, 32], "dropout": 0.5, "output_bias": "random"}
    assert settings["model"].items() >= expected.items()
    assert settings["training"]["learning_rate"] == 0.01


def test_data_shows_the_embedded_source(hierfed: Hierfed) -> None:
    found = hierfed("data", "embedded")
    assert (found.code, found.err) == (0, "")
    assert "100,004" in found.out
    assert len(re.findall(r"[0-9a-f]{40}", found.out)) >= 2
    assert "title: metadata for" in found.out


@pytest.mark.parametrize("words", [["data", "ml", "--join", "none"], ["data", "--join", "none", "ml"]])
def test_data_takes_a_source_with_and_without_the_command_s_name(
    hierfed: Hierfed, tmp_path: Path, words: list[str]
) -> None:
    write_folder(tmp_path / "ml")
    found = hierfed(*words)
    assert (found.code, found.err) == (0, "")
    assert "300 by 30 users" in found.out
    assert hierfed("data", "show", *words[1:]) == found


def test_data_alone_shows_the_embedded_source(hierfed: Hierfed) -> None:
    assert hierfed("data") == hierfed("data", "show", "embedded")


def test_ratings_that_data_makes_are_shown_and_run_on(hierfed: Hierfed, tmp_path: Path) -> None:
    found = hierfed("data", "make", "deep/new", *made(25, 60, 700), "--seed", "3")
    assert (found.code, found.err) == (0, "")
    assert found.out == "700 ratings of 60 items by 25 users: deep/new\n"
    shown = hierfed("data", "deep/new")
    assert "generated: 25 users, 60 items, 700 ratings, seed 3" in " ".join(shown.out.split())
    assert "700 in = 700 used + 0 dropped" in shown.out
    ran = hierfed("run", "network", "--data", "deep/new", "--json", *SMALL)
    assert strict_json(ran.out)["data"]["ratings"] == 700
    assert_refused(hierfed("data", "make", "deep/new", *made(25, 60, 700)), "deep/new", "not empty")


def test_ratings_that_were_stopped_as_they_were_made_leave_no_file(
    hierfed: Hierfed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hierfed.generated.world import World

    batches = World.batches

    def stop_after_one(world: World) -> Iterator[Any]:
        yield next(iter(batches(world)))
        raise KeyboardInterrupt

    monkeypatch.setattr(World, "batches", stop_after_one)
    found = hierfed("data", "make", "new", *made(25, 60, 700))
    assert (found.code, found.out, found.errors) == (130, "", ["stopped"])
    assert list((tmp_path / "new").iterdir()) == []


def test_help_of_data_names_its_commands(hierfed: Hierfed) -> None:
    text = " ".join(hierfed("data", "--help").out.split())
    assert "show" in text
    assert "make" in text
    assert "SOURCE" in hierfed("data", "show", "--help").out
    assert "--ratings" in hierfed("data", "make", "--help").out


def test_data_shows_the_warning_of_the_paper_s_join(hierfed: Hierfed, tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    write_folder(folder)
    write_metadata(folder)
    found = hierfed("data", "ml", "--join", "paper")
    assert (found.code, found.err) == (0, "")
    text = " ".join(found.out.split())
    kept = sum(film <= 30 for _, film, _, _ in small_ratings())
    assert f"300 in = {kept} used + {300 - kept} dropped" in text
    assert f"{300 - kept}: no metadata (join paper)" in text
    assert "warning" in text


def test_a_run_with_the_paper_s_join_warns(hierfed: Hierfed, tmp_path: Path) -> None:
    write_folder(tmp_path / "ml")
    write_metadata(tmp_path / "ml")
    found = hierfed("run", "paper", "--data", "ml", "--join", "paper", *SMALL)
    assert found.code == 0, found.err
    assert "Warning: the join `paper`" in found.out


def test_compare_runs_the_presets_on_the_same_seeds(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("compare", "paper", "network", "--data", folder, "--seeds", "2", *SMALL)
    assert found.code == 0, found.err
    for preset in ("paper", "network"):
        seeds = [tmp_path / "runs" / "compare" / preset / f"seed-{seed}" / "result.json" for seed in (0, 1)]
        assert [strict_json(path.read_text())["preset"] for path in seeds] == [preset, preset]
    assert "paper" in found.out
    assert "network" in found.out
    assert max(map(len, found.out.splitlines())) <= 80


def test_compare_takes_the_first_one_s_seeds_for_all(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    (tmp_path / "later.toml").write_text('preset = "later"\nseed = 7\n')
    found = hierfed("compare", "network", "later.toml", "--data", folder, "--seeds", "1", "--quiet", *SMALL)
    assert found.code == 0, found.err
    for label in ("network", "later"):
        summary = tmp_path / "runs" / "compare" / label / "summary.json"
        assert strict_json(summary.read_text())["seeds"] == [0]


def test_a_study_goes_on_where_it_was(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    text = f'presets = ["paper", "network"]\nseeds = 1\n[settings]\nsource = "{folder}"\n'
    (tmp_path / "small.toml").write_text(text + "\n".join(SETS))
    first, again = hierfed("study", "small.toml"), hierfed("study", "small.toml")
    assert first.code == again.code == 0, first.err
    assert "2 of 2 runs, about 0 min left" in first.err
    assert "2 of 2 runs are there already" in again.err
    assert first.out == again.out
    assert "as it is, network" in first.out
    (tmp_path / "odd.toml").write_text(text + "[variant.a]\n")
    assert "variant: Extra inputs" in hierfed("study", "odd.toml").err


def test_compare_as_json_has_the_paired_differences(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("compare", "paper", "network", "--data", folder, "--seeds", "2", "--json", *SMALL)
    assert (found.code, found.err) == (0, "")
    compared = strict_json(found.out)
    results: dict[str, list[Any]] = {
        preset: [
            strict_json((tmp_path / "runs" / "compare" / preset / f"seed-{seed}" / "result.json").read_text())
            for seed in (0, 1)
        ]
        for preset in ("paper", "network")
    }
    assert list(compared["summaries"]) == ["paper", "network"]
    (pair,) = [each for each in compared["differences"] if each["first"] == "paper: rmse_after"]
    gaps = [
        one["users"]["rmse_after"] - other["users"]["rmse_after"]
        for one, other in zip(results["paper"], results["network"], strict=True)
    ]
    assert pair["mean"] == pytest.approx(np.mean(gaps))
    assert pair["second"] == "network: rmse_after"


def test_settings_files_of_one_name_are_not_mixed_up(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    for name in ("paper", "network"):
        (tmp_path / name).mkdir()
        text = hierfed("presets", "--settings", name).out
        (tmp_path / name / "settings.toml").write_text(text)
    words = ["compare", "paper/settings.toml", "network/settings.toml", "--data", folder, "--seeds", "1"]
    assert_refused(hierfed(*words, "--json", *SMALL), "different names")


def test_columns_can_be_named(hierfed: Hierfed, tmp_path: Path) -> None:
    rows = [f"{user};{film};{rating}" for user, film, rating, _ in small_ratings()]
    (tmp_path / "table.csv").write_text("\n".join(["who;what;stars", *rows]) + "\n")
    columns = ("--column", "user=who", "--column", "item=what", "--column", "rating=stars")
    found = hierfed("run", "network", "--data", "table.csv", *columns, "--json", *SMALL)
    assert (found.code, found.err) == (0, "")
    assert strict_json(found.out)["data"]["ratings"] == 300


def test_a_database_is_a_source_and_its_settings_repeat_the_run(hierfed: Hierfed, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE sold (who, what, stars, at)")
        base.executemany("INSERT INTO sold VALUES (?, ?, ?, ?)", small_ratings())
    words = ["--data", "shop.db", "--query", "SELECT who, what AS item, stars * 1.0 AS rating FROM sold"]
    found = hierfed("run", "network", *words, "--column", "user=who", "--json", *SMALL)
    assert (found.code, found.err) == (0, "")
    first = strict_json(found.out)
    assert first["data"]["ratings"] == 300
    again = strict_json(hierfed("run", str(tmp_path / "runs" / "network" / "settings.toml"), "--json").out)
    assert again["digest"] == first["digest"]
    assert "shop.db, query" in hierfed("data", *words[1:], "--column", "user=who").out
    compared = hierfed("compare", "paper", "network", *words, "--set", "columns.user=who", "--seeds", "1", *SMALL)
    assert compared.code == 0, compared.err


@pytest.mark.parametrize("command", [["run", "network", "--data"], ["data"], ["compare", "paper", "network", "--data"]])
def test_a_password_in_an_address_is_refused_not_repeated_and_not_written(
    hierfed: Hierfed, tmp_path: Path, command: list[str]
) -> None:
    found = hierfed(*command, "postgresql://me:s3cret@localhost/shop", "--query", "SELECT 1")
    assert_refused(found, "holds a password", "~/.pgpass")
    assert "s3cret" not in found.err
    assert list(tmp_path.iterdir()) == []


def test_test_rows_can_be_given(hierfed: Hierfed, tmp_path: Path) -> None:
    lines = [",".join(map(str, row)) for row in small_ratings()]
    for name, chosen in (("train.csv", lines[:250]), ("test.csv", lines[250:])):
        (tmp_path / name).write_text("\n".join(["user,item,rating,time", *chosen]) + "\n")
    found = hierfed("run", "network", "--data", "train.csv", "--test", "test.csv", "--json", *SMALL)
    assert (found.code, found.err) == (0, "")
    assert strict_json(found.out)["data"]["split"]["test"] == 50


def test_stopping_is_one_line_and_exit_code_130(
    hierfed: Hierfed, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hierfed import experiment

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_experiment", stop)
    found = hierfed("run", "network", "--data", folder, *SMALL)
    assert found.code == 130
    assert found.out == ""
    assert found.errors == ["stopped"]
    assert not (tmp_path / "runs").exists()


def test_stopping_keeps_the_finished_rounds(
    hierfed: Hierfed, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hierfed.runs.folder import RoundLog

    write = RoundLog.round

    def stop_after_two(self: RoundLog, record: Any) -> None:
        write(self, record)
        if record.round == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RoundLog, "round", stop_after_two)
    found = hierfed("run", "network", "--data", folder, "--quiet", *SMALL, "--set", "rounds=5")
    assert found.code == 130
    assert found.errors == ["the rounds that were finished: runs/network/rounds.jsonl", "stopped"]
    kept = (tmp_path / "runs" / "network" / "rounds.jsonl").read_text().splitlines()
    assert [strict_json(line)["round"] for line in kept] == [1, 2]
    assert not (tmp_path / "runs" / "network" / "result.json").exists()


def test_help_names_every_command(hierfed: Hierfed) -> None:
    found = hierfed("--help")
    assert found.code == 0
    for command in ("run", "compare", "data", "presets", "report"):
        assert command in found.out


@pytest.mark.parametrize("command", ["run", "data show", "compare"])
def test_help_names_the_sources_and_the_query(hierfed: Hierfed, command: str) -> None:
    text = " ".join(hierfed(*command.split(), "--help").out.replace("│", " ").split())
    for word in ("embedded", "Parquet", "SQLite", "postgresql://USER@HOST/DATABASE", "--query"):
        assert word in text


def in_a_process(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hierfed", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


def test_processes_that_start_together_keep_all_results(parent: Parent, folder: str, tmp_path: Path) -> None:
    words = ("compare", "local", "item_biases", "--seeds", "1", "--data", folder, "--quiet", "--seed")
    with ExitStack() as both:
        started = [both.enter_context(closing(parent.start(tmp_path, (*words, seed)))) for seed in ("3", "7")]
        for process in started:
            assert (process.communicate()[1], process.returncode) == ("", 0)
    runs = tmp_path / "runs"
    assert {path.name for path in runs.iterdir()} == {"compare", "compare-2"}
    assert all((runs / name / "comparison.json").is_file() for name in ("compare", "compare-2"))
    results = [strict_json(path.read_text()) for path in runs.glob("*/**/result.json")]
    assert sorted((each["preset"], each["seed"]) for each in results) == [
        *(("item_biases", 3), ("item_biases", 7), ("local", 3), ("local", 7))
    ]


def test_a_run_on_codes_and_tied_times_is_told_so_once(hierfed: Hierfed, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for user in range(30):
        for place, item in enumerate(rng.choice(40, 10, replace=False)):
            rating = -1 if rng.random() < 0.3 else rng.integers(1, 11)
            rows.append(f"{user},{item},{rating},{min(place, 8 if user % 2 else 9)}")
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating,time", *rows]) + "\n")
    sets = [word for setting in ("nodes=2", "hidden=[4]", "rounds=1") for word in ("--set", setting)]
    found = hierfed("run", "network", "--data", "r.csv", "--protocol", "temporal", "--set", "test_share=0.1", *sets)
    assert found.code == 0
    warnings = [line for line in found.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "are -1, which stands apart from the others, 1 to 10" in warnings[0]
    assert "50% of the test rows bear the same time as train rows" in warnings[1]


def test_a_run_that_is_asked_to_end_leaves_no_empty_folder(
    hierfed: Hierfed, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hierfed import experiment

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(experiment, "run_experiment", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    try:
        found = hierfed("run", "network", "--data", folder, *SMALL)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found.code == 128 + signal.SIGTERM
    assert not (tmp_path / "runs").exists()


def test_a_process_exits_with_the_code_and_the_line(tmp_path: Path) -> None:
    found = in_a_process("run", "papr", cwd=tmp_path)
    assert_refused(Finished(found.returncode, found.stdout, found.stderr), "did you mean 'paper'?")


def test_colours_are_off_where_there_is_no_terminal(folder: str, tmp_path: Path) -> None:
    found = in_a_process("run", "network", "--data", folder, *SMALL, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "\x1b" not in found.stdout + found.stderr
    assert "round 1/1" in found.stderr
    assert "report.html" in found.stdout


def test_compare_begins_at_the_seed_that_is_set(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("compare", "local", "item_biases", "--data", folder, "--seeds", "1", "--set", "seed=7", "--quiet")
    assert found.code == 0, found.err
    assert (tmp_path / "runs" / "compare" / "item_biases" / "seed-7" / "result.json").is_file()


def test_the_version_is_told(hierfed: Hierfed) -> None:
    assert hierfed("--version").out == f"hierfed {version('hierfed')}\n"


def test_compare_leaves_what_it_found(hierfed: Hierfed, folder: str, tmp_path: Path) -> None:
    found = hierfed("compare", "local", "item_biases", "--data", folder, "--seeds", "1", "--json")
    assert (tmp_path / "runs" / "compare" / "comparison.json").read_text() == found.out
