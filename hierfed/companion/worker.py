"""The companion's side: it answers tasks until its standard input ends."""

from __future__ import annotations

import sys
from dataclasses import replace

from hierfed.companion.task import read_task, write_answer
from hierfed.data.features import Features
from hierfed.methods import make_averaging
from hierfed.models.threads import one_torch_thread


def main() -> None:
    """Train the nodes of each task and answer with their parameters."""
    with one_torch_thread():
        while (task := read_task(sys.stdin.buffer)) is not None:
            method = make_averaging(task.settings, Features(task.features, (), ()), task.training.scale)
            method = replace(method, training=task.training)
            write_answer(method.train_alone(task.nodes, task.rounds), sys.stdout.buffer)
