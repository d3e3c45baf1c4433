"""A leashed process does what it is told, and ends when the one that holds the leash does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hierfed.leash import start_leashed, stop_leashed

PATIENCE = 60.0
PROGRAM = """
import os, signal, sys, threading

def tell(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

def repeat():
    tell(repr(sys.argv))
    tell(os.environ.get("LEASH_TEST", "unset"))
    sys.stderr.write("to the log too\\n")
    sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

def wait():
    tell(f"here {os.getpid()}")
    threading.Event().wait()

def clean_up():
    def end(*_):
        sys.exit(143)
    signal.signal(signal.SIGTERM, end)
    try:
        wait()
    finally:
        tell("cleaned up")

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()

def impatient_deaf():
    import hierfed.leash
    hierfed.leash.GRACE_SECONDS = 0.01
    deaf()

def fail():
    raise ValueError("not today")
"""
PARENT = """
import os, sys, threading
from hierfed.leash import start_leashed
log = open(sys.argv[1], "wb")
child = start_leashed("leashed_program:" + sys.argv[2], [], log, {})
print(child.pid, flush=True)
threading.Event().wait()
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("program")
    (place / "leashed_program.py").write_text(PROGRAM)
    package = Path(sys.modules["hierfed.leash"].__file__).parents[2]  # type: ignore[arg-type]
    return os.pathsep.join([str(place), str(package)])


@pytest.fixture
def leashed(path: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(function: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("wb") as log:
            child = start_leashed(f"leashed_program:{function}", arguments, log, {"PYTHONPATH": path, **environment})
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
            child.wait()


def has_told(log: Path, text: str) -> Callable[[], bool]:
    return lambda: log.is_file() and text in log.read_text()


@pytest.mark.parametrize("code", [0, 1, 7])
def test_arguments_environment_and_exit_code_pass_through(leashed, tmp_path, code):
    child = leashed("repeat", str(code), "--a b", "", "ü", LEASH_TEST="set")
    assert child.wait(PATIENCE) == code
    lines = (tmp_path / "log").read_text().splitlines()
    assert f"['repeat', '{code}', '--a b', '', 'ü']" in lines
    assert "set" in lines
    assert "to the log too" in lines


def test_the_parent_s_environment_is_the_child_s(leashed, tmp_path, monkeypatch):
    monkeypatch.setenv("LEASH_TEST", "from the parent")
    assert leashed("repeat").wait(PATIENCE) == 0
    assert "from the parent" in (tmp_path / "log").read_text()


def test_an_error_is_told_and_its_exit_code_is_not_zero(leashed, tmp_path):
    assert leashed("fail").wait(PATIENCE) == 1
    assert "ValueError: not today" in (tmp_path / "log").read_text()


def test_a_child_is_in_a_session_of_its_own(leashed, tmp_path):
    child = leashed("wait")
    until(has_told(tmp_path / "log", "here"))
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_it_ends_when_its_pipe_is_closed_and_cleans_up_first(leashed, tmp_path):
    child = leashed("clean_up")
    until(has_told(tmp_path / "log", "here"))
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(PATIENCE) == 143
    assert "cleaned up" in (tmp_path / "log").read_text()


def test_one_that_does_not_listen_ends_too_when_its_pipe_is_closed(leashed, tmp_path):
    child = leashed("impatient_deaf")
    until(has_told(tmp_path / "log", "here"))
    child.stdin.close()
    assert child.wait(PATIENCE) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_parent_is_killed(path, tmp_path, how):
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log), "clean_up"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        child = int(parent.stdout.readline())
        until(has_told(log, f"here {child}"))
        assert alive(child)
    finally:
        parent.send_signal(how)
        parent.wait(PATIENCE)
        parent.stdout.close()
    until(lambda: not alive(child))
    assert "cleaned up" in log.read_text()


def test_stop_asks_first(leashed, tmp_path):
    child = leashed("clean_up")
    until(has_told(tmp_path / "log", "here"))
    assert stop_leashed(child) == 143
    assert "cleaned up" in (tmp_path / "log").read_text()
    assert child.stdin.closed


def test_stop_makes_one_end_that_does_not_listen(leashed, tmp_path, monkeypatch):
    monkeypatch.setattr("hierfed.leash.GRACE_SECONDS", 0.01)
    child = leashed("deaf")
    until(has_told(tmp_path / "log", "here"))
    assert stop_leashed(child) == -signal.SIGKILL


def test_stop_gives_the_code_of_one_that_has_ended_by_itself(leashed):
    child = leashed("repeat", "5")
    child.wait(PATIENCE)
    assert stop_leashed(child) == 5
    assert stop_leashed(child) == 5
