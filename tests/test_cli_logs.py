"""Logs of processes that run for long: a line an event, with time and level."""

from __future__ import annotations

import json
import logging
import re
import sys

import pytest

from hierfed import cli
from hierfed.cli.logs import LOG, log_to_stderr

pytest.importorskip("flwr")
AT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


@pytest.fixture(autouse=True)
def quiet_after():
    yield
    LOG.handlers, LOG.propagate = [], True
    LOG.setLevel(logging.NOTSET)


def test_text_has_time_and_level(capsys):
    from hierfed.cli.watching import LoggedLines

    log_to_stderr("text")
    lines = LoggedLines()
    lines.tell("node shop has joined")
    lines.tell("warning: most items are unknown")
    lines.warn("node shop is gone\nwith a second line \x1b[2J")
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{AT} INFO node shop has joined", told[0])
    assert re.fullmatch(f"{AT} WARNING most items are unknown", told[1])
    assert re.fullmatch(rf"{AT} WARNING node shop is gone with a second line  ?\[2J", told[2])


def test_json_is_an_object_a_line(capsys):
    from hierfed.cli.watching import LoggedLines

    log_to_stderr("json")
    LoggedLines().warn('node "büro" is gone')
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert re.fullmatch(AT, found.pop("time"))
    assert found == {"level": "WARNING", "logger": "hierfed", "message": 'node "büro" is gone'}
    assert line.isascii()


def test_the_error_at_the_end_is_json_too(capsys, monkeypatch, tmp_path):
    state = str(tmp_path / "state")
    arguments = ["node", "--server", "nowhere", "--data", "x.csv", "--state", state, "--log-format", "json"]
    monkeypatch.setattr(sys, "argv", ["hierfed", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert json.loads(line)["level"] == "ERROR"
    assert "expected HOST:PORT" in json.loads(line)["message"]
