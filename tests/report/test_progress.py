"""What a run shows while it works: nothing, lines, or a bar, as the terminal allows; always on standard error."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import rich.console

from hierfed.report import progress
from hierfed.report.console import PlainConsole
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
        ratings=500_000,
        seconds=0.25 * number,
    )
    for number in (1, 2)
]
LOCAL = RECORDS[0].model_copy(update={"round": 0, "train_loss": [], "ratings": 0})


class Clock:
    """A time that passes as it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watch(silent: bool) -> None:
    with watching(SETTINGS, "paper, seed 0", silent) as watcher:
        for stage in ("data", "train"):
            watcher.stage(stage)
        for record in RECORDS:
            watcher.round(record)
        for stage in ("personalise", "baselines", "report"):
            watcher.stage(stage)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[80, 120])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> StringIO:
    """A terminal of so many columns that stands for standard error, and keeps what is written."""
    out, columns = StringIO(), request.param

    def make_console(**options: Any) -> PlainConsole:
        assert options == {"stderr": True}
        return PlainConsole(
            file=out,
            force_terminal=True,
            width=columns,
            color_system=None,
            legacy_windows=False,
            get_time=clock,
            _environ={},
        )

    monkeypatch.setattr(progress, "PlainConsole", make_console)
    return out


def shown(watcher: Any) -> tuple[str, str]:
    """The two lines that the bar has on its terminal now."""
    out = StringIO()
    console = rich.console.Console(file=out, width=watcher.progress.console.width, color_system=None, _environ={})
    console.print(watcher.progress.get_renderable())
    words, bar = out.getvalue().splitlines()
    return words.rstrip(), bar.rstrip()


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
        assert f"{2_000_000 // number:,} ratings/s" in line
        assert line.startswith("paper, seed 0")
        for part in (f"round {number}/2", f"loss {loss}", f"RMSE {rmse}"):
            assert part in line
    assert "\x1b" not in err
    assert "\r" not in err


def test_a_terminal_shows_words_and_a_bar_that_moves_round_by_round(terminal: StringIO, clock: Clock) -> None:
    with watching(SETTINGS, "paper, seed 0", silent=False) as watcher:
        watcher.stage("train")
        clock.now += 1
        assert shown(watcher) == ("paper, seed 0: training", f"{' ' * 28} 0/2  0:00:01 -:--:-- left")
        watcher.round(RECORDS[0])
        words, bar = shown(watcher)
        assert words == "paper, seed 0: training  loss 1.2500  RMSE 1.5000"
        assert " 1/2 2,000,000 ratings/s 0:00:01 " in bar
        watcher.round(RECORDS[1])
        words, bar = shown(watcher)
        assert words == "paper, seed 0: training  loss 0.6250  RMSE 0.7500"
        assert " 2/2 1,000,000 ratings/s " in bar
        watcher.stage("baselines")
        words, bar = shown(watcher)
        assert words == "paper, seed 0: training the baselines"
        assert bar == f"{'━' * 28} 2/2  0:00:01"


def test_the_bar_fits_the_terminal_at_its_longest(terminal: StringIO, clock: Clock) -> None:
    settings = Settings(training=TrainingSettings(rounds=100))
    fast = RECORDS[0].model_copy(update={"ratings": 50_000_000, "seconds": 1.0})
    with watching(settings, "hierarchical, seed 0", silent=False) as watcher:
        watcher.stage("train")
        for number in range(1, 100):
            watcher.round(fast.model_copy(update={"round": number}))
            clock.now += 300
        _, bar = shown(watcher)
    assert bar == f"{'━' * 27}╸  99/100 50,000,000 ratings/s 8:15:00 0:05:00 left"


@pytest.mark.parametrize("seconds", [5, 300])
def test_the_time_left_is_that_of_the_rounds_to_come_at_the_mean_speed(
    terminal: StringIO, clock: Clock, seconds: int
) -> None:
    """Rounds may be far longer than the half minute over which rich measures speed by itself."""
    settings = Settings(training=TrainingSettings(rounds=6))
    with watching(settings, "paper, seed 0", silent=False) as watcher:
        watcher.stage("data")
        clock.now += 1000
        watcher.stage("train")
        for number in (1, 2, 3):
            clock.now += seconds
            watcher.round(RECORDS[0].model_copy(update={"round": number}))
        _, bar = shown(watcher)
        assert bar.endswith(f"{timedelta(seconds=1000 + 3 * seconds)} {timedelta(seconds=3 * seconds)} left")


def test_time_passes_in_every_stage_and_only_the_training_has_some_left(terminal: StringIO, clock: Clock) -> None:
    with watching(SETTINGS, "paper, seed 0", silent=False) as watcher:
        for number, stage in enumerate(progress.STAGES):
            watcher.stage(stage)
            if stage == "train":
                for record in RECORDS:
                    watcher.round(record)
            words, bar = shown(watcher)
            assert progress.STAGES[stage] in words
            assert f" {timedelta(minutes=number)}" in bar
            assert ("left" in bar) == ("ratings/s" in bar) == (stage == "train")
            clock.now += 60


def test_the_bar_moves_within_a_round_of_the_training(terminal: StringIO, clock: Clock) -> None:
    with watching(SETTINGS, "paper, seed 0", silent=False) as watcher:
        watcher.stage("train")
        watcher.share(-1, 0.5)
        words, bar = shown(watcher)
        assert words == "paper, seed 0: training, opening rounds"
        assert " 0/2 " in bar
        for share in (0.0, 0.25, 0.5):
            clock.now += 10
            watcher.share(1, share)
        words, bar = shown(watcher)
        assert words == "paper, seed 0: training"
        assert bar == f"{'━' * 7}{' ' * 21} 0/2  0:00:30 0:01:00 left"
        watcher.round(RECORDS[0])
        watcher.share(2, 0.0)
        assert " 1/2 " in shown(watcher)[1]


def test_rounds_outside_the_training_are_told_in_words(terminal: StringIO) -> None:
    with watching(SETTINGS, "x", silent=False) as watcher:
        watcher.stage("select")
        watcher.share(-2, 1.0)
        assert shown(watcher)[0] == "x: choosing hyperparameters, opening rounds"
        watcher.share(3, 0.375)
        words, bar = shown(watcher)
        assert words == "x: choosing hyperparameters, round 3, 38%"
        assert " 0/2 " in bar
        watcher.share(3, 1.0)
        assert shown(watcher)[0] == "x: choosing hyperparameters", "what follows is no round"


def test_the_nodes_that_were_judged_are_counted_until_all_were(terminal: StringIO) -> None:
    with watching(SETTINGS, "x", silent=False) as watcher:
        watcher.stage("personalise")
        watcher.judged(1_234, 162_000)
        words, bar = shown(watcher)
        assert words == "x: personalising, 1,234 of 162,000 nodes"
        assert " 0/2 " in bar
        watcher.judged(162_000, 162_000)
        assert shown(watcher)[0] == "x: personalising"


def test_the_longest_words_fit_the_terminal(terminal: StringIO) -> None:
    with watching(SETTINGS, "hierarchical, seed 0", silent=False) as watcher:
        watcher.stage("train")
        watcher.round(RECORDS[0])
        watcher.stage("rank")
        watcher.share(12, 0.99)
        assert shown(watcher)[0] == "hierarchical, seed 0: training the ranking models, round 12, 99%"


def test_what_is_told_stands_above_the_bar(terminal: StringIO) -> None:
    with watching(SETTINGS, "x", silent=False) as watcher:
        watcher.stage("train")
        watcher.note("a line [of] words")
    assert re.search(r"a line \[of\] words\nx:", terminal.getvalue())


def test_a_method_without_rounds_is_one_line_without_a_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(SETTINGS, "local, seed 0", silent=False) as watcher:
        watcher.round(LOCAL)
    assert capsys.readouterr().err == "local, seed 0: no rounds  RMSE 1.5000\n"


def test_the_bar_of_a_method_without_rounds_is_full(terminal: StringIO) -> None:
    with watching(SETTINGS, "local, seed 0", silent=False) as watcher:
        watcher.stage("train")
        watcher.round(LOCAL)
        words, bar = shown(watcher)
    assert words == "local, seed 0: training  RMSE 1.5000"
    assert bar == f"{'━' * 28} 1/1  0:00:00 0:00:00 left"


def test_every_stage_of_a_run_has_its_words(terminal: StringIO) -> None:
    watch(silent=False)
    assert set(progress.STAGES) == {"data", "select", "train", "personalise", "baselines", "rank", "report"}


def test_the_bar_is_gone_when_the_run_ends(terminal: StringIO) -> None:
    watch(silent=False)
    assert terminal.getvalue().endswith("\x1b[2K"), "the last thing written erases the bar's line"


def test_an_error_inside_ends_the_bar_and_is_passed_on(terminal: StringIO) -> None:
    with pytest.raises(RuntimeError, match="stop"), watching(SETTINGS, "x", silent=False) as watcher:
        watcher.stage("train")
        raise RuntimeError("stop")
    assert "\x1b[?25h" in terminal.getvalue(), "the cursor is shown again"
