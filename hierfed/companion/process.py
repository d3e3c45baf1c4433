"""The command line's helper: started before torch is loaded here, so that it loads its own at the same time.

Threads would not do: a training step is forty calls of torch, and each of them waits for Python's lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from hierfed.companion.task import Task
    from hierfed.data.federation import Node
    from hierfed.federated.averaging import FederatedAveraging
    from hierfed.settings import Settings

_WORKER = "from hierfed.companion.worker import main; main()"


class Companion:
    """A process that trains nodes alone; where it would not pay, or fails, they are trained here.

    It pays where a second core is free to load torch while this process does.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._talk = ThreadPoolExecutor(1)
        if _cores() > 1 and "torch" not in sys.modules:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                start_new_session=True,  # Ctrl-C is for this process, which then stops the other
            )

    def __enter__(self) -> Companion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        self._talk.shutdown(cancel_futures=True)
        if self._process is not None:
            with suppress(OSError):
                self._process.communicate()

    def begin(
        self, settings: Settings, method: FederatedAveraging, nodes: Sequence[Node], rounds: int
    ) -> Callable[[], Tensor]:
        """Begin to train the nodes alone; see evaluation.baselines.Begin.

        settings: those that the method was made of, but for its training.
        """
        from hierfed.companion.task import Task  # noqa: PLC0415 - torch
        from hierfed.evaluation.baselines import begin_here  # noqa: PLC0415

        here = begin_here(method, nodes, rounds)
        if self._process is None:
            return here
        trained = self._talk.submit(_exchange, self._process, Task.of(settings, method, nodes, rounds))

        def wait() -> Tensor:
            try:
                return trained.result()
            except (OSError, EOFError):  # It has ended. If the task did that, the user shall see the error.
                return here()

        return wait


def _exchange(process: subprocess.Popen[bytes], task: Task) -> Tensor:
    from hierfed.companion.task import read_answer  # noqa: PLC0415 - torch

    if process.stdin is None or process.stdout is None:
        raise EOFError
    task.write(process.stdin)
    return read_answer(process.stdout)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
