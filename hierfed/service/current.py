"""The model that answers now, exchanged for a newer one while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from hierfed.errors import HierfedError
from hierfed.runs.models import MODEL
from hierfed.runs.private_files import INDEX
from hierfed.runs.served_pair import CURRENT, SERVED
from hierfed.serving.recommender import Recommender

LOG = logging.getLogger(__name__)
# Answers to known users are kept, since their models change only with the run.
KEPT_ANSWERS = 4096


class Answering:
    """A loaded model with the answers that it has given to users of the run.

    most: answers that are kept.
    """

    def __init__(self, folder: Path, most: int = KEPT_ANSWERS):
        self.model = Recommender(folder)
        # What is made at the first request is made now, before anyone waits.
        self.model.recommend("", k=1)
        self.model.recommend(ratings={self.model.served.item_id(0): self.model.served.limits[1]}, k=1)
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The answer of this key, made at most once while it is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


class Current:
    """The model in a run's folder or a node's state. A newer one is loaded beside it, and then takes its place.

    every: seconds between two looks at the folder.
    prepare: makes answers of a model before it takes its place.
    most: answers that are kept.
    """

    def __init__(
        self,
        folder: Path,
        every: float = 1.0,
        prepare: Callable[[Answering], None] | None = None,
        most: int = KEPT_ANSWERS,
    ):
        self.folder, self.every = folder, every
        self._prepare, self._most = prepare, most
        self._signature = self._look()
        self.answering = Answering(folder, most)
        self.swaps, self.failures = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="newer models", daemon=True)

    def start(self) -> None:
        """Prepare the model's answers, and watch the folder from now on."""
        if self._prepare is not None:
            self._prepare(self.answering)
        self._thread.start()

    def stop(self) -> None:
        """Watch it no longer."""
        self._stop.set()
        self._thread.join()

    def refresh(self) -> bool:
        """Load a newer model if there is one; True where it took the place. A damaged one is left alone and counted."""
        signature = self._look()
        if signature == self._signature or not signature:
            return False
        began = time.perf_counter()
        try:
            newer = Answering(self.folder, self._most)
            if self._prepare is not None:
                self._prepare(newer)
        except HierfedError as error:
            self.failures += 1
            LOG.warning("a newer model cannot be read, and the one before goes on: %s", error)
            self._signature = signature
            return False
        self.answering, self._signature = newer, signature
        self.swaps += 1
        LOG.info("a newer model answers, loaded in %.1f s", time.perf_counter() - began)
        return True

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """What tells one model from the next: inodes, sizes and times of the files that are written last.

        An update of users alone writes their list of files.
        """
        found = []
        for name in (MODEL, "result.json", INDEX, f"{SERVED}/{CURRENT}"):
            try:
                status = (self.folder / name).stat()
            except OSError:
                continue
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self.refresh()
