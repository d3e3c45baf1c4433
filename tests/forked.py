"""Processes of `hierfed` that begin with all imports done: forks of one process, which has trained nothing.

Imports take four seconds of a node's five. What such a process does is what `hierfed` in a shell does: it has its own
arguments, folder, streams, state and end. The parent starts no thread and computes nothing, so that a fork is sound.

    python -P forked.py     takes requests on its standard input, a socket; see Parent.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

MODULES = (
    "hierfed.cli.watching",
    "hierfed.deployment.edge_hosting",
    "hierfed.deployment.forgetting",
    "hierfed.deployment.hosting",
    "hierfed.deployment.peer",
    "hierfed.methods",
    "flwr.superlink.main",
    "flwr.superlink.cli.flower_superlink",
)
SETTLED = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
LONGEST_REQUEST = 1 << 16
COMMAND = "from hierfed.cli import command; command()"


class Forked:
    """A process that was forked; the part of subprocess.Popen that tests use. stderr: what it says."""

    def __init__(self, told: socket.socket, stderr: TextIO):
        self.stderr, self.returncode = stderr, None
        self._told, self._pending = told, b""
        self.pid = int(self._next(None)[1])

    def _next(self, seconds: float | None) -> list[str]:
        """The keeper's next line as words, such as "ended 0"; none if it says nothing for so long."""
        while b"\n" not in self._pending:
            if not select.select([self._told], [], [], seconds)[0]:
                return []
            more = self._told.recv(4096)
            assert more, "its keeper is gone"
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode().split()

    def _look(self, seconds: float | None, wanted: str) -> None:
        """Listen until the process has ended, is as wanted, or for so long."""
        while self.returncode is None and (words := self._next(seconds)):
            if words[0] == "ended":
                self.returncode = int(words[1])
            if words[0] == wanted:
                return

    def poll(self) -> int | None:
        self._look(0, "ended")
        return self.returncode

    def wait(self) -> int | None:
        self._look(None, "ended")
        return self.returncode

    def wait_until_stopped(self) -> None:
        """Wait for a SIGSTOP; the process must not end before."""
        self._look(None, "stopped")
        assert self.returncode is None

    def communicate(self) -> tuple[None, str]:
        said = self.stderr.read()
        self.wait()
        return None, said

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        self.wait()
        self.stderr.close()
        self._told.close()


class Parent:
    """The process that others are forked from."""

    def __init__(self) -> None:
        self._asks, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", str(Path(__file__))]
            self._process = subprocess.Popen(command, stdin=theirs, env=os.environ | SETTLED)

    def start(
        self, folder: Path, arguments: Sequence[object] = (), code: str = COMMAND, out: Path | str = os.devnull
    ) -> Forked:
        """Run Python code in this folder, with these arguments. out: takes its standard output."""
        told, theirs = socket.socketpair()
        reads, writes = os.pipe()
        request = json.dumps([str(folder), [str(word) for word in arguments], code, str(out)]).encode()
        with theirs:
            socket.send_fds(self._asks, [request], [theirs.fileno(), writes])
        os.close(writes)
        return Forked(told, os.fdopen(reads, encoding="utf-8"))

    def close(self) -> None:
        self._asks.close()
        self._process.wait()


@contextlib.contextmanager
def parent() -> Iterator[Parent]:
    """A parent until the end; its processes must have ended before."""
    made = Parent()
    try:
        yield made
    finally:
        made.close()


def answer_requests(asked: socket.socket) -> Callable[[], None] | None:
    """Fork for each request until there are no more; in a process that was asked for, gives what it is to run."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, LONGEST_REQUEST, 2)
        with contextlib.suppress(ChildProcessError):
            # At the end for all keepers, whose times would be lost; else for those that have ended.
            while os.waitpid(-1, os.WNOHANG if request else 0)[0]:
                pass
        if not request:
            return None
        if os.fork() == 0:
            asked.close()
            return keep(json.loads(request), *descriptors)
        for each in descriptors:
            os.close(each)


def keep(request: list[Any], told: int, errors: int) -> Callable[[], None]:
    """Fork the process itself, and tell its number, each time that it stops, and its end, as its parent alone can."""
    child = os.fork()
    if child == 0:
        os.close(told)
        return prepared(request, errors)
    os.close(errors)
    os.write(told, f"forked {child}\n".encode())
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.write(told, b"stopped\n")
        else:
            os.write(told, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


def prepared(request: list[Any], errors: int) -> Callable[[], None]:
    """What the process is to run; its folder, arguments and streams are set."""
    folder, arguments, code, out = request
    os.chdir(folder)
    sys.argv = ["hierfed", *arguments]
    with Path(os.devnull).open("rb", buffering=0) as nothing, Path(out).open("wb", buffering=0) as told:
        os.dup2(nothing.fileno(), 0)
        os.dup2(told.fileno(), 1)
    os.dup2(errors, 2)
    os.close(errors)
    # Python's own streams know what their descriptors were.
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    return lambda: exec(compile(code, "forked", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    for name in MODULES:
        # Not every installation has all extras.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    # Python's collector would write into every page that forks share.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as requests:
        run = answer_requests(requests)
    if run is not None:
        run()
