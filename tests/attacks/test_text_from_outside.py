"""No text from outside gives orders to a terminal, and none fills it."""

from __future__ import annotations

import io
import signal
import sys
import time
import types
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from hierfed import cli
from hierfed.cli.output import say
from hierfed.cli.watching import FederationLines
from hierfed.errors import HierfedError
from hierfed.plain_text import LONGEST, printable
from hierfed.report.console import PlainConsole
from hierfed.results import DeployedRound, RefusedAnswer

ORDERS = ("\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x9b2J", "a\rb", "a\x08b", "\u202egnp.exe", "\x00", "line\u2028two")


@pytest.mark.parametrize("text", ORDERS)
def test_errors_are_one_line_without_orders(text: str) -> None:
    told = str(HierfedError(f"film {text}\nsecond line"))
    assert told.isprintable()
    assert told.endswith("second line")


def test_a_long_text_keeps_its_beginning_and_its_advice() -> None:
    told = str(HierfedError("setting " + "x" * 100_000 + "; choose another"))
    assert len(told) <= LONGEST
    assert told.startswith("setting x")
    assert told.endswith("; choose another")
    assert printable("short") == "short"


@pytest.mark.parametrize("text", ORDERS)
def test_a_console_obeys_nobody_else(text: str) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=True, width=80, color_system=None)
    table = Table(title=Text(text))
    table.add_row(Text(text), text)
    console.print(table)
    console.print(text, markup=False)
    assert all(letter.isprintable() or letter == "\n" for letter in out.getvalue())


def test_a_console_keeps_lines_and_its_own_colours() -> None:
    out = io.StringIO()
    PlainConsole(file=out, force_terminal=True, width=80, color_system="standard").print("[red]one[/]\ntwo")
    assert out.getvalue() == "\x1b[31mone\x1b[0m\ntwo\n"


def test_refusals_and_events_of_nodes_are_stripped_and_cut() -> None:
    lines, out = FederationLines(), io.StringIO()
    lines.console.file = out
    refused = [RefusedAnswer(node="\x1b[2Jn", reason="\x1b]0;t\x07" + "y" * 100_000)]
    lines.on_round(
        DeployedRound(
            stage="rating",
            round=1,
            contributors=[],
            refused=refused,
            abandoned=True,
            train_loss=[],
            bytes_up=0,
            bytes_down=0,
            seconds=0.0,
        )
    )
    lines.tell("\x1b[1mjoined")
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert len(shown) < 3 * LONGEST


def test_a_line_on_standard_error_is_stripped(capsys: pytest.CaptureFixture[str]) -> None:
    say("in \x1b[31mfolder")
    assert capsys.readouterr().err == "in  [31mfolder\n"


def test_a_ctrl_c_that_python_drops_is_heard_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a destructor it was written as a traceback, and the command ended with exit code 0."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Destructor:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def command(**named: Any) -> int:
        Destructor()
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            pass
        return 0

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(cli, "app", command)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.command()
        # Once all is done there is nothing to stop.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_other_errors_in_destructors_are_written_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "__unraisablehook__", seen.append)
    lost: Any = types.SimpleNamespace(exc_type=ValueError)
    cli._raise_again(lost)
    assert seen == [lost]
