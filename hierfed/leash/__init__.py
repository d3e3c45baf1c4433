"""A process that ends when the one that started it does, however that one ended.

`python -m hierfed.leash MODULE:FUNCTION ARGUMENTS` calls the function with these as the process's arguments. Its
standard input is a pipe that the parent holds open and never writes to.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

GRACE_SECONDS = 10.0


def start_leashed(
    function: str, arguments: Sequence[str], log: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start `MODULE:FUNCTION` in such a process, away from the terminal's signals; what it prints goes to `log`."""
    return subprocess.Popen(
        [sys.executable, "-m", "hierfed.leash", function, *arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def stop_leashed(child: subprocess.Popen[bytes]) -> int:
    """Ask the process to end, and make it if it does not; gives its exit code."""
    if child.poll() is None:
        child.terminate()
    try:
        code = child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    if child.stdin is not None:
        child.stdin.close()
    return code


def run_leashed() -> None:
    """Run the function that such a process is for."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, function = sys.argv[1].partition(":")
    sys.argv[:2] = [function]
    getattr(importlib.import_module(module), function)()


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock this thread would hold while the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
