"""`hierfed serve` and `hierfed page` on the command line: what they leave, and what they refuse in one line."""

from __future__ import annotations

import socket
import sys

import pytest

from hierfed import cli


def ended(monkeypatch, capsys, *words):
    """The exit code, output and errors of a command."""
    monkeypatch.setattr(sys, "argv", ["hierfed", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


def test_a_page_is_written_and_says_what_it_publishes(model, tmp_path, monkeypatch, capsys):
    out = tmp_path / "page"
    code, told, _ = ended(monkeypatch, capsys, "page", model.served.folder, "--out", out)
    assert code == 0
    assert {"index.html", "data.js", "arrays.json"} <= {path.name for path in out.iterdir()}
    assert "publishes the shared model" in told
    assert "licence:" in told
    assert "AUC" in told


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["serve"], "one of the two"),
        (["serve", "run", "--state", "here"], "one of the two"),
        (["serve", "run", "--host", "0.0.0.0"], "give --tokens, --certificate and --key"),
        (["serve", "run", "--host", "some.example"], "give --tokens, --certificate and --key"),
        (["serve", "run", "--certificate", "c.pem"], "--certificate and --key go together"),
        (["serve", "run", "--tokens", "nowhere"], "--tokens nowhere: cannot be read"),
        (["serve", "--state", "nowhere"], "--state nowhere: no such folder"),
        (["serve", "nowhere"], "no run to recommend from"),
        (["page", "nowhere"], "no run to make a page of"),
        (["page"], "one of the two"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, monkeypatch, capsys, words, error):
    monkeypatch.chdir(tmp_path)
    code, _, told = ended(monkeypatch, capsys, *words)
    assert code in (1, 2)
    assert error in told
    assert len(told.splitlines()) == 1


def test_a_port_in_use_is_one_line(model, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, told = ended(monkeypatch, capsys, "serve", model.served.folder, "--port", port)
    assert code == 1
    assert f"error: --port {port}: cannot listen at 127.0.0.1: Address already in use; choose" in told
    assert "startup" not in told


def test_loopback_is_told_from_other_addresses(model, tmp_path, monkeypatch, capsys):
    """What is started is noted in place of a server."""
    started = []
    monkeypatch.setattr("hierfed.service.app.serve", lambda folder, app, host, *rest: started.append((host, *rest)))
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ended(monkeypatch, capsys, "serve", model.served.folder, "--host", host)[0] == 0
    assert started == [(host, 8000, None, None) for host in ("127.0.0.1", "localhost", "::1")]
