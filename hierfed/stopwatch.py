"""Wall seconds of each part of a run."""

from __future__ import annotations

import time

from hierfed.observer import Observer
from hierfed.results import Seconds


class Stopwatch:
    """Measures the parts of a run one after the other, and tells an observer as each begins."""

    def __init__(self, observer: Observer):
        self._observer = observer
        self._spent: dict[str, float] = {}
        self._part = ""
        self._began = 0.0

    def start(self, part: str) -> None:
        """End the part before, and begin this one."""
        self.stop()
        self._part, self._began = part, time.perf_counter()
        self._observer.stage(part)

    def stop(self) -> None:
        """End the current part."""
        if self._part:
            self._spent[self._part] = time.perf_counter() - self._began
        self._part = ""

    def seconds(self) -> Seconds:
        """The seconds of all parts so far, without the report."""
        return Seconds(**self._spent, report=0.0, total=sum(self._spent.values()))
