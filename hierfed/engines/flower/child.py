"""Flower's own server process, which ends when the process that started it does, however that ended.

Run as a module; its standard input is a pipe that the parent holds open and never writes to.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE_SECONDS = 5.0


def end_with_parent() -> None:
    """Wait until the pipe closes, then ask this process to end, and after a while make it."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def main() -> None:
    """Run the SuperLink with the arguments of this process."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    from flwr.superlink.cli.flower_superlink import flower_superlink  # noqa: PLC0415 - takes seconds to load

    flower_superlink()


if __name__ == "__main__":
    main()
