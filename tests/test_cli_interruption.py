"""Ctrl-C during runs: the first one leaves a whole run of the rounds that there are, the second one no half of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hierfed.cli.interruption import INTERRUPTED, TOLD, Interruption
from hierfed.results import Result
from hierfed.runs import folder as runs
from hierfed.runs import reports
from tests.commands import Hierfed, caller

SETS = ("nodes=2", "personal_nodes=2", "hidden=[4]", "local_epochs=1", "tuning_epochs=1", "rounds=5", "sample=1.0")
SMALL = ["--data", "ratings.csv", *(word for setting in SETS for word in ("--set", setting))]
CtrlC = Callable[..., None]


@pytest.fixture
def usual_handler() -> Iterator[None]:
    """Python's own handler, which processes in the background of a shell lack."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler, "whoever listens for Ctrl-C leaves things as they were"


@pytest.fixture
def hierfed(
    usual_handler: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Hierfed:
    """Run a command in this process, in a folder of its own with a small table; figures are placeholders."""

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_table(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> CtrlC:
    """Has Ctrl-C pressed as a round ends, once or oftener, in a run of this seed and preset."""
    write = runs.RoundLog.round

    def press(number: int, times: int = 1, folder: str = "") -> None:
        def round_ends(self: runs.RoundLog, record: Any) -> None:
            write(self, record)
            if record.round == number and str(self.path.parent).endswith(folder):
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(runs.RoundLog, "round", round_ends)

    return press


def write_table(place: Path) -> None:
    rng = np.random.default_rng(2)
    rows = [
        f"{user},{item},{rng.integers(1, 11) / 2}" for user in range(30) for item in rng.choice(40, 10, replace=False)
    ]
    (place / "ratings.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")


def environment() -> dict[str, str]:
    """That of a process which finds this package where this one did, whatever folder it is started in."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def result_of(folder: Path) -> Result:
    return Result.model_validate_json((folder / "result.json").read_text())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_first_ctrl_c_of_a_training_is_told_of_and_the_second_does_what_it_did(usual_handler: None) -> None:
    told, interruption = list[str](), Interruption()
    with pytest.raises(KeyboardInterrupt), interruption.heard(told.append):
        interruption.stage("train")
        assert interruption.should_continue()
        signal.raise_signal(signal.SIGINT)
        assert not interruption.should_continue()
        interruption.stage("personalise")
        signal.raise_signal(signal.SIGINT)
    assert told == [TOLD]
    assert len(TOLD) < 80
    assert interruption.asked


@pytest.mark.parametrize("stage", ["data", "select", "personalise", "baselines", "rank", "report"])
def test_outside_the_training_ctrl_c_does_what_it_did(usual_handler: None, stage: str) -> None:
    told, interruption = list[str](), Interruption()
    with pytest.raises(KeyboardInterrupt), interruption.heard(told.append):
        interruption.stage("train")
        interruption.stage(stage)
        signal.raise_signal(signal.SIGINT)
    assert told == []
    assert not interruption.asked


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        told, interruption = list[str](), Interruption()
        with interruption.heard(told.append):
            interruption.stage("train")
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert (told, interruption.asked) == ([], False)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("preset", ["network", "hierarchical"])
def test_what_there_is_is_judged_saved_and_reported(
    hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path, preset: str
) -> None:
    ctrl_c(2)
    found = hierfed("run", preset, *SMALL, "--set", "threads=2")
    assert found.code == INTERRUPTED == 130
    lines = found.err.splitlines()
    assert [line.split("  ")[0] for line in lines if line != TOLD] == [
        f"{preset}, seed 0: round {number}/5" for number in (1, 2)
    ]
    assert lines.count(TOLD) == 1
    assert "Training was stopped after round 2 of 5" in found.out
    assert f"The report: runs/{preset}/report.html" in found.out
    assert "stopped after round 2 of 5" in (tmp_path / "runs" / preset / "report.html").read_text()
    early = result_of(tmp_path / "runs" / preset)
    assert early.ended_early
    assert [record.round for record in early.rounds] == [1, 2]
    assert len((tmp_path / "runs" / preset / "rounds.jsonl").read_text().splitlines()) == 2
    # What the page says of how to get the model again is true.
    again = hierfed("run", f"runs/{preset}/settings.toml", "--set", "rounds=2", "--quiet", "--name", "again")
    assert again.code == 0
    assert result_of(tmp_path / "runs" / "again").digest == early.digest


def test_the_ledger_of_a_run_that_ended_early_is_sealed(hierfed: Hierfed, ctrl_c: CtrlC) -> None:
    pytest.importorskip("cryptography")
    ctrl_c(3)
    assert hierfed("run", "network", *SMALL, "--quiet").code == 130
    audited = hierfed("audit", "runs/network")
    assert audited.code == 0, audited.out
    # Round 0 gathers the mean rating.
    assert "4 of 'rating'" in audited.out


def test_where_nothing_was_left_out_the_run_is_whole(hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path) -> None:
    ctrl_c(5)
    found = hierfed("run", "network", *SMALL)
    assert found.code == 0
    assert not result_of(tmp_path / "runs" / "network").ended_early


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_who_presses_ctrl_c_is_answered_however_quiet_the_run(hierfed: Hierfed, ctrl_c: CtrlC, option: str) -> None:
    ctrl_c(1)
    found = hierfed("run", "network", *SMALL, option)
    assert found.code == 130
    assert found.err == f"{TOLD}\n"
    if option == "--json":
        assert json.loads(found.out)["ended_early"] is True
    else:
        assert found.out == ""


def test_no_further_seed_is_begun_and_means_are_of_whole_runs(hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path) -> None:
    ctrl_c(3, folder="seed-1")
    found = hierfed("run", "network", *SMALL, "--seeds", "3")
    folder = tmp_path / "runs" / "network"
    assert found.code == 130
    assert "stopped: 1 of 3 runs trained to the end; network, seed 1, ended early and is in no mean" in found.err
    assert names(folder) == ["figures", "report.html", "seed-0", "seed-1", "summary.json"]
    assert json.loads((folder / "summary.json").read_text())["seeds"] == [0]
    assert [result_of(folder / f"seed-{seed}").ended_early for seed in (0, 1)] == [False, True]
    assert "The report: runs/network/report.html" in found.out


def test_where_the_first_seed_ended_early_its_own_report_is_what_there_is(
    hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path
) -> None:
    ctrl_c(1)
    found = hierfed("run", "network", *SMALL, "--seeds", "3")
    assert found.code == 130
    assert "0 of 3 runs trained to the end" in found.err
    assert found.out == "The report: runs/network/seed-0/report.html\n"
    assert names(tmp_path / "runs" / "network") == ["seed-0"]
    assert hierfed("run", "network", *SMALL, "--seeds", "3", "--json").out == ""


def test_a_seed_whose_last_round_was_the_one_is_whole_and_the_last(
    hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path
) -> None:
    ctrl_c(5)
    found = hierfed("run", "network", *SMALL, "--seeds", "2")
    assert found.code == 130
    assert "stopped: 1 of 2 runs trained to the end\n" in found.err
    assert json.loads((tmp_path / "runs" / "network" / "summary.json").read_text())["seeds"] == [0]


def test_a_comparison_that_was_stopped_compares_nothing(hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path) -> None:
    ctrl_c(2, folder="paper/seed-0")
    found = hierfed("compare", "network", "paper", *SMALL, "--seeds", "2")
    folder = tmp_path / "runs" / "compare"
    assert found.code == 130
    assert "stopped: 2 of 4 runs trained to the end; paper, seed 0, ended early and is in no mean" in found.err
    assert found.out == "What there is: runs/compare\n"
    assert names(folder) == ["network", "paper"]
    assert json.loads((folder / "network" / "summary.json").read_text())["seeds"] == [0, 1]
    assert names(folder / "paper") == ["seed-0"]


def test_the_second_ctrl_c_leaves_the_log_of_the_rounds_alone(hierfed: Hierfed, ctrl_c: CtrlC, tmp_path: Path) -> None:
    ctrl_c(2, times=2)
    found = hierfed("run", "network", *SMALL)
    assert found.code == 130
    assert found.out == ""
    assert found.err.splitlines()[-2:] == ["the rounds that were finished: runs/network/rounds.jsonl", "stopped"]
    assert names(tmp_path / "runs" / "network") == ["rounds.jsonl"]


@pytest.mark.parametrize(
    ("module", "moment"), [(reports, "write_report"), (reports, "write_record"), (runs, "save_private")]
)
def test_a_run_that_is_stopped_as_it_is_saved_is_taken_back(
    hierfed: Hierfed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType, moment: str
) -> None:
    save = getattr(module, moment)

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, moment, save_and_stop)
    found = hierfed("run", "network", *SMALL, "--quiet")
    assert found.code == 130
    assert names(tmp_path / "runs" / "network") == ["rounds.jsonl"]
    assert len((tmp_path / "runs" / "network" / "rounds.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("command", ["run", "compare"])
def test_help_says_what_ctrl_c_does(hierfed: Hierfed, command: str) -> None:
    text = " ".join(hierfed(command, "--help").out.split())
    for part in ("Ctrl-C ends the training with its round", "exit code is 130", "second Ctrl-C stops at once"):
        assert part in text


@pytest.fixture
def started(usual_handler: None, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of many rounds in a process group of its own, as a shell would start it, just after its first round."""
    write_table(tmp_path)
    words = ["run", "network", *SMALL, "--set", "rounds=100000", "--set", "threads=2"]
    with subprocess.Popen(
        [sys.executable, "-m", "hierfed", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("network, seed 0: round 1/100000")
        yield process
        process.kill()


@pytest.mark.slow
def test_a_process_and_its_companion_end_at_a_round_s_end(started: subprocess.Popen[str], tmp_path: Path) -> None:
    """A terminal sends the signal to all of the group."""
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert "Traceback" not in err
    assert TOLD in err.splitlines()
    result = result_of(tmp_path / "runs" / "network")
    assert result.ended_early
    assert 1 <= len(result.rounds) < 100_000
    assert f"stopped after round {len(result.rounds)} of 100000" in out
    assert {"report.html", "model.safetensors", "private", "settings.toml"} <= set(names(tmp_path / "runs" / "network"))
    shorter = [sys.executable, "-m", "hierfed", "run", "runs/network/settings.toml", "--name", "again", "--quiet"]
    shorter += ["--set", f"rounds={len(result.rounds)}"]
    subprocess.run(shorter, cwd=tmp_path, env=environment(), check=True, timeout=120)
    assert result_of(tmp_path / "runs" / "again").digest == result.digest


@pytest.mark.slow
def test_a_process_stops_at_once_the_second_time(started: subprocess.Popen[str], tmp_path: Path) -> None:
    assert started.stderr is not None
    os.killpg(started.pid, signal.SIGINT)
    while started.stderr.readline().rstrip() != TOLD:
        assert started.poll() is None
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == ["the rounds that were finished: runs/network/rounds.jsonl", "stopped"]
    assert names(tmp_path / "runs" / "network") == ["rounds.jsonl"]


def test_after_a_ctrl_c_no_rival_is_trained(hierfed: Hierfed, ctrl_c: CtrlC, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(self: Any, rows: Any) -> None:
        raise AssertionError("a rival was trained")

    monkeypatch.setattr("hierfed.methods.averaging.averaging.FederatedAveraging.rivals", trained)
    ctrl_c(2)
    assert hierfed("run", "network", *SMALL, "--name", "ended").code == INTERRUPTED
    result = result_of(Path("runs/ended"))
    assert [record.round for record in result.rounds] == [1, 2]
    assert np.isnan([result.baselines.local_only, result.baselines.centralised]).all()
    assert np.isfinite([result.baselines.biases, result.baselines.global_mean]).all()
