"""Ctrl-C during runs: the first one ends the training with its round, the second one ends the command."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from types import FrameType

from hierfed.observer import Observer

INTERRUPTED = 130
"""The exit code of a command that was stopped before it had done all that it was asked for."""

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a command that was asked to end."""

TOLD = "stopping after this round, then judging and saving; Ctrl-C again stops at once"


class Interruption(Observer):
    """An observer of a command's runs that knows whether a Ctrl-C has asked for an end; see Observer.

    asked: whether one has. While a run trains, the first Ctrl-C asks; any other does what Ctrl-C did before.
    """

    def __init__(self) -> None:
        self.asked = False
        self._training = False

    def stage(self, name: str) -> None:
        """Note whether the run trains: only the training has rounds to end with. See Observer."""
        self._training = name == "train"

    def should_continue(self) -> bool:
        """See Observer."""
        return not self.asked

    @contextmanager
    def heard(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Take Ctrl-C in this way while the block runs.

        tell: called from another thread with a line that says that it was heard.
        """
        before = signal.getsignal(signal.SIGINT)
        if not callable(before):  # It is ignored, as behind a shell's `&`.
            yield
            return
        heard: SimpleQueue[bool] = SimpleQueue()

        # Not from the handler: it may interrupt whoever is writing to the same stream. A SimpleQueue takes that.
        def tell_once() -> None:
            if heard.get():
                tell(TOLD)

        def handle(number: int, frame: FrameType | None) -> None:
            if self._training and not self.asked:
                self.asked = True
                heard.put(True)
            else:
                before(number, frame)

        teller = Thread(target=tell_once)
        teller.start()
        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            heard.put(False)
            teller.join()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind what is open, as Ctrl-C does."""

    def end(*_: object) -> None:
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
