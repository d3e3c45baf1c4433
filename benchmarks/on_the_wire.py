"""All bytes of federations of every method, real processes: `python benchmarks/on_the_wire.py [--only hierarchical]`.

Three nodes talk to their server through somebody who keeps every byte. Six items have fewer raters than the threshold;
each has a twin among them, of the same title, year and genres, of which other ratings were given. Counted are the
numbers that went by, the arrays of exact counts of raters that nodes sent, and what must not be there: a rating, sum,
square or deviation of a rare item, a difference between twins, an array that no table declares, a user's id. With
`--threshold-off` the same look finds what is there, if the method sums by item at all. The exit code is 1 where
anything was found under the threshold, or counts under secure sums.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from leaks.wire import Kept, Listener, Told, drawn, look, numbers_of

from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.plan import check_deployable
from hierfed.errors import SettingsError
from hierfed.settings import load_settings

USERS, ITEMS, NODES, THRESHOLD = 36, 40, 3, 5
# Of each rare item: the nodes of its raters. Items in a row are twins.
RARE = ((0,), (0,), (1, 1), (1,), (0, 1, 2), (2, 2))
LOW, HIGH = 0.5, 5.0
NETWORK: Mapping[str, Any] = {"rounds": 2, "hidden": [6, 4], "local_epochs": 1, "batch_size": 16}
FACTORS: Mapping[str, Any] = {
    "rounds": 2, "rank": 2, "embedding_rank": 3, "embedding_rounds": 1, "implicit_rank": 3, "implicit_rounds": 2,
    "least_raters": 3,
}  # fmt: skip
VECTORS = {**NETWORK, "item_vector_size": 3, "user_vector_size": 3}
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "item_biases": ("item_biases", {}),
    "hierarchical": ("hierarchical", FACTORS),
    "hierarchical, words16": ("hierarchical", {**FACTORS, "steps": ["words16"]}),
    "hierarchical, exact_sum": ("hierarchical", {**FACTORS, "rule": "exact_sum"}),
    "hierarchical, deflate": ("hierarchical", {**FACTORS, "steps": ["deflate"]}),
    "hierarchical, no features": ("hierarchical", FACTORS),
    "network": ("network", NETWORK),
    "network, no features": ("network", NETWORK),
    "network, vectors": ("network", VECTORS),
    "network, vectors alone": ("network", {**VECTORS, "item_features": "leave_out"}),
    "network, experts": ("network", {**NETWORK, "experts": 2, "federation.nodes": NODES}),
    "network, scaffold": ("network", {**NETWORK, "correction": "scaffold", "optimizer": "sgd"}),
    "network, nova": ("network", {**NETWORK, "correction": "nova"}),
    "network, head kept": ("network", {**NETWORK, "kept": "head", "turns": ["body", "head"]}),
    "network, median": ("network", {**NETWORK, "rule": "median"}),
    "network, eden1": ("network", {**NETWORK, "steps": ["eden1"]}),
    "network, top_k": ("network", {**NETWORK, "steps": ["top_k"]}),
    "private": ("private", {"epsilon": 3.0}),
}
# Changes after which nodes may send what is declared under other names.
CODED = ("steps", "rule")
# These differ in what an open sum's messages hold; the bytes of secure sums are those of the cases before them.
OPEN_ALONE = (*CODED, "correction", "kept", "experts")


def make_tables(place: Path, features: bool) -> Kept:
    """A catalogue, and each node's rows to learn from and to be judged on."""
    rng = np.random.default_rng(5)
    count = ITEMS + len(RARE)
    items = {"item_id": range(100, 100 + count)}
    twin = [item if item < ITEMS else ITEMS + (item - ITEMS) // 2 for item in range(count)]
    if features:
        genres = ["|".join(rng.choice(["Drama", "Comedy", "War"], 2, replace=False)) for _ in range(count)]
        years = rng.integers(1950, 2016, count)
        items |= {
            "title": [f"Film number {number}" for number in twin],
            "year": [int(years[number]) for number in twin],
            "genres": [genres[number] for number in twin],
        }
    pl.DataFrame(items).write_csv(place / "items.csv")
    ids = [f"visitor-{rng.bytes(5).hex()}" for _ in range(USERS)]
    rows = [
        (node, user, 100 + item, float(rng.integers(1, 11)) / 2, turn == 0)
        for node in range(NODES)
        for user in ids[node::NODES]
        for turn, item in enumerate(rng.permutation(ITEMS)[:16].tolist())
    ]
    for item, nodes in enumerate(RARE):
        for turn, node in enumerate(nodes):
            # No sum of others' half stars comes near such a number.
            said = float(np.float32(rng.uniform(LOW, HIGH)))
            rows.append((node, ids[node::NODES][turn], 100 + ITEMS + item, said, False))
    schema = {"node": pl.Int64, "user": pl.String, "item": pl.Int64, "rating": pl.Float64, "held": pl.Boolean}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    for (node, held), part in table.group_by("node", "held"):
        part.select("user", "item", "rating").write_parquet(place / f"{node}{' test' if held else ''}.parquet")
    learned = table.filter(~pl.col("held"))
    raters = np.zeros((NODES, count))
    np.add.at(raters, (learned["node"].to_numpy(), learned["item"].to_numpy() - 100), 1.0)
    means = [
        learned["rating"].mean(),
        *learned.group_by("node").agg(pl.col("rating").mean())["rating"],
        (LOW + HIGH) / 2,
    ]
    rare = learned.filter(pl.col("item") >= 100 + ITEMS)
    parts = [*rare.partition_by("item"), *rare.partition_by("item", "node")]
    return Kept(
        count,
        raters,
        [(place, place + 1) for place in range(ITEMS, count, 2)],
        numbers_of([part["rating"].to_numpy() for part in parts], [(LOW + HIGH) / 2, *map(float, means)]),  # type: ignore[arg-type]
        ids,
    )


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train(name: str, secure: bool, threshold: int) -> tuple[Told, float]:
    """A federation of real processes, overheard; and its seconds."""
    preset, changes = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        place, began = Path(folder), time.monotonic()
        kept = make_tables(place, "no features" not in name)
        listeners = [Listener(port := free_port())]
        listeners += [Listener(port) for _ in range(NODES - 1)]
        sets = settings_of(changes, secure, threshold)
        arguments = [word for key, value in sets.items() for word in ("--set", f"{key}={text(value)}")]
        server = start(
            place, "server", preset, "--listen", f"127.0.0.1:{port}", "--nodes", NODES, "--quorum", NODES,
            "--catalogue", "items.csv", "--name", "trained", *arguments,
        )  # fmt: skip
        nodes = [
            start(
                place, "node", "--server", f"127.0.0.1:{listener.port}", "--data", f"{node}.parquet",
                "--test", f"{node} test.parquet", "--state", f"state-{node}", "--name", node,
                "--least-raters", threshold,
            )
            for node, listener in enumerate(listeners)
        ]  # fmt: skip
        try:
            while any(process.poll() is None for process in (server, *nodes)):
                for process in (server, *nodes):
                    if process.poll():
                        raise SystemExit(f"{name}: {process.communicate()[1].strip().splitlines()[-1]}")
                time.sleep(0.2)
        finally:
            for process in (server, *nodes):
                process.kill()
        sent, received = zip(*(listener.close() for listener in listeners), strict=True)
        sent, received = chain.from_iterable(sent), chain.from_iterable(received)
        settings = load_settings(preset, sets)
        public = drawn(settings, read_catalogue(place / "items.csv"), (LOW, HIGH))
        told = look(settings.method, kept, sent, received, public, any(key in changes for key in CODED))
        return told, time.monotonic() - began


def settings_of(changes: Mapping[str, Any], secure: bool, threshold: int) -> dict[str, Any]:
    """The settings of a federation."""
    return {**changes, "min_raters": threshold, "scale": [LOW, HIGH], **({"secure_sums": True} if secure else {})}


def text(value: Any) -> str:
    """A value as the command line takes it."""
    return str(value).replace("'", '"').replace("True", "true")


def start(place: Path, *arguments: object) -> subprocess.Popen[str]:
    """A process of the package."""
    command = [sys.executable, "-m", "hierfed", *map(str, arguments)]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def refused(name: str, secure: bool, threshold: int) -> str:
    """Why there is no such federation; empty if there is."""
    preset, changes = CASES[name]
    try:
        settings = load_settings(preset, settings_of(changes, secure, threshold))
        check_deployable(settings)
    except SettingsError as error:
        return str(error)
    return "always secure" if settings.privacy.secure_sums and not secure else ""


def main() -> None:
    """Go over the methods; under the threshold nothing may be found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--after", default="", help="cases after this one")
    parser.add_argument("--threshold-off", action="store_true", help="see that the look finds something there")
    parser.add_argument("--show", action="store_true", help="each thing that was found")
    given = parser.parse_args()
    bad = 0
    print(f"{'method':28}{'sums':8}{'threshold':>10}{'messages':>10}{'numbers':>10}{'counts':>8}{'found':>7}{'s':>6}")
    names = list(CASES)[list(CASES).index(given.after) + 1 if given.after else 0 :]
    for name in (name for name in names if name.startswith(given.only)):
        alone = given.threshold_off or any(key in CASES[name][1] for key in OPEN_ALONE)
        for secure in (False,) if alone else (False, True):
            threshold = 1 if given.threshold_off else THRESHOLD
            why = refused(name, secure, threshold)
            begins = f"{name:28}{'secure' if secure else 'open':8}{threshold:>10}"
            if why:
                print(f"{begins}  {why[:90]}", flush=True)
                continue
            told, seconds = train(name, secure, threshold)
            figures = f"{told.messages:>10}{told.entries:>10}{told.counts:>8}{len(told.found):>7}{seconds:>6.0f}"
            print(f"{begins}{figures}", flush=True)
            if given.show and told.found:
                print("\n".join(f"    {line}" for line in sorted(set(told.found))[:30]), flush=True)
            bad += threshold > 1 and (bool(told.found) or (secure and bool(told.counts)))
    sys.exit(int(bool(bad)))


if __name__ == "__main__":
    main()
