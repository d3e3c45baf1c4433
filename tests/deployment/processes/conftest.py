"""A small federation's data, and processes that never outlive their test."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests import forked

ITEMS, USERS = 40, 36
# Of two more items, alike, each rated by one user of node 1.
TWINS = {140: 1.171875, 141: 4.640625}
LONGEST_LIFE = 480.0

Process = forked.Forked | subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> Path:
    """A catalogue, and three nodes' tables of 12 users each, whose ids stand nowhere else."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(7)
    titles = [f"Film number {item}" for item in range(ITEMS)]
    genres = ["|".join(rng.choice(["Drama", "Comedy", "War"], rng.integers(1, 3), replace=False)) for _ in titles]
    years = rng.integers(1950, 2016, ITEMS)
    items = pl.DataFrame({"item_id": range(100, 100 + ITEMS), "title": titles, "year": years, "genres": genres})
    items = pl.concat([items, *(items.tail(1).with_columns(pl.lit(item, pl.Int64).alias("item_id")) for item in TWINS)])
    items.write_csv(folder / "items.csv")
    ids = [f"visitor-{rng.bytes(5).hex()}" for _ in range(USERS)]
    for node in range(3):
        rows = [
            (ids[user], 100 + int(item), float(rng.integers(1, 11)) / 2)
            for user in range(12 * node, 12 * node + 12)
            for item in rng.permutation(ITEMS)[: rng.integers(8, 20)]
        ]
        frame = pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
        # Of an item with one rater on a node, the node's sum is that user's: until sums are secret, it says so.
        frame = frame.filter(pl.len().over("item") > 1)
        if node == 0:
            alone = [(ids[0], item, stars) for item, stars in TWINS.items()]
            frame = pl.concat([frame, pl.DataFrame(alone, schema=frame.schema, orient="row")])
        frame.write_parquet(folder / f"{node + 1}.parquet")
    return folder


@contextmanager
def processes(parent: forked.Parent, folder: Path) -> Iterator[Start]:
    """Start `hierfed ARGUMENTS` in a folder; its standard error can be read line by line.

    afresh: as a shell starts it, and not by a fork. code: other Python in its place, by a fork.
    What is left is killed at the end.
    """
    started: list[Process] = []
    watchdogs: list[threading.Timer] = []

    def run(*arguments: object, afresh: bool = False, code: str = forked.COMMAND) -> Process:
        if afresh:
            words = [sys.executable, "-m", "hierfed", *map(str, arguments)]
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            started.append(subprocess.Popen(words, cwd=folder, text=True, **pipes))
        else:
            started.append(parent.start(folder, arguments, code))
        # A test that waits for what never comes fails by this, and does not hang.
        watchdogs.append(threading.Timer(LONGEST_LIFE, started[-1].kill))
        watchdogs[-1].start()
        return started[-1]

    try:
        yield run
    finally:
        for watchdog in watchdogs:
            watchdog.cancel()
        for process in started:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


@pytest.fixture
def start(parent: forked.Parent, tmp_path: Path) -> Iterator[Start]:
    """Starts processes of one test, in its folder."""
    with processes(parent, tmp_path) as run:
        yield run
