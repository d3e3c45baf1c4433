"""A federation of three nodes in processes, and what the same nodes reach in one."""

import json
import re
import socket

import numpy as np
import polars as pl
from leaks.wire import Kept, Told, drawn, look, numbers_of

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.federated.method import Method
from hierfed.methods import Case, prepare
from hierfed.settings import load_settings
from tests.deployment.processes.conftest import TWINS, Process

ROUNDS = 4
SETTINGS = ("--set", "min_raters=2", "--set", "embedding_rank=4", "--set", "embedding_rounds=1", "--set", "rank=3")
SETTINGS += ("--set", "rank_items=false")
SCALE = (0.5, 5.0)
DIGEST = re.compile(r"digest ([0-9a-f]{64})")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(start, tables, port, *more, **how):
    address = f"127.0.0.1:{port}"
    options = ["--nodes", 3, "--quorum", 3, "--catalogue", tables / "items.csv", "--name", "trained"]
    return start("server", "--listen", address, *options, "--set", f"rounds={ROUNDS}", *SETTINGS, *more, **how)


def join(start, tables, port, number, *more, **how):
    options = ["--data", tables / f"{number}.parquet", "--state", f"state-{number}", "--name", number]
    options += ["--least-nodes", 1, "--least-raters", 1, "--test-share", 0]
    return start("node", "--server", f"127.0.0.1:{port}", *options, *more, **how)


def digest_of(lines) -> str:
    (found,) = DIGEST.findall("\n".join(lines))
    return found


def read_until(process: Process, wanted: str) -> list[str]:
    """The lines of a process's standard error up to the one that holds `wanted`; fails where the process ends first."""
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip())
        if wanted in line:
            return lines
    raise AssertionError(f"ended without saying {wanted!r}: {lines}")


def last_line(process: Process) -> str:
    """What a process says last; it must end with an error."""
    _, told = process.communicate()
    assert process.returncode == 1, told
    assert "Traceback" not in told
    return told.strip().splitlines()[-1]


def overheard(tables, sent, received) -> Told:
    """What the bytes between node 1 and its server tell of items under the threshold."""
    overrides = dict(assignment.split("=") for assignment in SETTINGS[1::2])
    settings = load_settings("hierarchical", {key: json.loads(value) for key, value in overrides.items()})
    catalogue, own = read_catalogue(tables / "items.csv"), pl.read_parquet(tables / "1.parquet")
    parts = [pl.read_parquet(tables / f"{number}.parquet") for number in (1, 2, 3)]
    everybody = pl.concat(parts)
    counts = np.stack([np.bincount(each["item"].to_numpy() - 100, minlength=len(catalogue)) for each in parts])
    said = [np.array([stars]) for stars in TWINS.values()]
    numbers = numbers_of([*said, np.concatenate(said)], [own["rating"].mean(), everybody["rating"].mean()])
    places = tuple(item - 100 for item in TWINS)
    kept = Kept(len(catalogue), counts.astype(np.float64), [places], numbers, own["user"].unique().to_list())
    return look(settings.method, kept, sent, received, drawn(settings, catalogue, SCALE))


def in_process(tables) -> tuple[Method, list[Node]]:
    """The method of these settings, and a node for each of the three tables; the ratings are on SCALE."""
    overrides = dict(assignment.split("=") for assignment in SETTINGS[1::2])
    settings = load_settings("hierarchical", {key: json.loads(value) for key, value in overrides.items()})
    catalogue = read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(tables / f"{number}.parquet")), catalogue) for number in (1, 2, 3)]
    nodes = [Node(place, str(place + 1), each.train, each.test) for place, each in enumerate(own)]
    return prepare(Case(settings, catalogue, SCALE)).method, nodes
