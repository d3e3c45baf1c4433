"""What a run shows while it works: nothing, lines, or a bar, as the terminal allows; always on standard error."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
import rich.console

from hierfed.report import progress
from hierfed.report.progress import watching
from hierfed.results import RoundRecord
from hierfed.settings import Settings, TrainingSettings

SETTINGS = Settings(training=TrainingSettings(rounds=2))
RECORDS = [
    RoundRecord(
        round=number,
        train_loss=[9.0, 1.25 / number],
        global_rmse=1.5 / number,
        global_mae=1.0,
        global_user_macro_rmse=1.0,
        bytes_up=1,
        bytes_down=1,
        seconds=0.1,
    )
    for number in (1, 2)
]


def watch(silent: bool) -> None:
    with watching(SETTINGS, "paper, seed 0", silent) as watcher:
        for stage in ("data", "train"):
            watcher.on_stage(stage)
        for record in RECORDS:
            watcher.on_round(record)
        for stage in ("personalise", "baselines", "report"):
            watcher.on_stage(stage)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """A terminal of 100 columns that stands for standard error, and keeps what is written."""
    out = StringIO()

    def make_console(**options: Any) -> rich.console.Console:
        assert options == {"stderr": True}
        return rich.console.Console(
            file=out, force_terminal=True, width=100, color_system=None, legacy_windows=False, _environ={}
        )

    monkeypatch.setattr(progress, "Console", make_console)
    return out


def test_silent_shows_nothing(capfd: pytest.CaptureFixture[str], terminal: StringIO) -> None:
    watch(silent=True)
    assert capfd.readouterr() == ("", "")
    assert terminal.getvalue() == ""


def test_where_there_is_no_terminal_each_round_is_one_plain_line_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch(silent=False)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    for line, number, loss, rmse in zip(lines, (1, 2), ("1.2500", "0.6250"), ("1.5000", "0.7500"), strict=True):
        assert line.startswith("paper, seed 0")
        for part in (f"round {number}/2", f"loss {loss}", f"RMSE {rmse}"):
            assert part in line
    assert "\x1b" not in err
    assert "\r" not in err


def test_a_terminal_shows_a_bar_that_moves_with_loss_rmse_and_stage(terminal: StringIO) -> None:
    with watching(SETTINGS, "paper, seed 0", silent=False) as watcher:
        watcher.on_stage("train")
        watcher.progress.refresh()
        assert "0/2" in terminal.getvalue()
        assert "training" in terminal.getvalue()
        watcher.on_round(RECORDS[0])
        watcher.progress.refresh()
        assert "1/2" in terminal.getvalue()
        assert "loss 1.2500  RMSE 1.5000" in terminal.getvalue()
        watcher.on_round(RECORDS[1])
        watcher.on_stage("baselines")
        watcher.progress.refresh()
    shown = terminal.getvalue()
    assert "2/2" in shown
    assert "loss 0.6250  RMSE 0.7500" in shown
    assert "baselines" in shown
    assert "━" in shown
    assert "paper, seed 0" in shown


def test_a_method_without_rounds_is_one_line_without_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(SETTINGS, "local, seed 0", silent=False) as watcher:
        watcher.on_round(RECORDS[0].model_copy(update={"round": 0, "train_loss": []}))
    assert capsys.readouterr().err == "local, seed 0: no rounds  RMSE 1.5000\n"


def test_the_bar_of_a_method_without_rounds_is_full(terminal: StringIO) -> None:
    with watching(SETTINGS, "local, seed 0", silent=False) as watcher:
        watcher.on_round(RECORDS[0].model_copy(update={"round": 0, "train_loss": []}))
        watcher.progress.refresh()
    assert "1/1 RMSE 1.5000" in terminal.getvalue()


def test_every_stage_of_a_run_has_its_words(terminal: StringIO) -> None:
    watch(silent=False)
    assert set(progress.STAGES) == {"data", "select", "train", "personalise", "baselines", "rank", "report"}


def test_the_bar_is_gone_when_the_run_ends(terminal: StringIO) -> None:
    watch(silent=False)
    assert terminal.getvalue().endswith("\x1b[2K"), "the last thing written erases the bar's line"


def test_an_error_inside_ends_the_bar_and_is_passed_on(terminal: StringIO) -> None:
    with pytest.raises(RuntimeError, match="stop"), watching(SETTINGS, "x", silent=False) as watcher:
        watcher.on_stage("train")
        raise RuntimeError("stop")
    assert "\x1b[?25h" in terminal.getvalue(), "the cursor is shown again"
