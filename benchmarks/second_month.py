"""The second month of a federation: real processes, nodes with SQLite files, new users, items and a node that joins.

    python benchmarks/second_month.py

Month 1: three nodes train, personalise and recommend. Month 2: each SQLite file gets new users, ratings and items, a
fourth node joins, and all train again with the same state folders. At every moment `hierfed recommend` must answer:

- before the first training has finished: exit code 3, "not personalised yet";
- from then on: exit code 0, for users whom the node knows; an unknown one gets a newcomer's list, said aloud;
- during the second training, and after it until `personalise` has run: the list of month 1, item by item;
- afterwards: new users are known, nobody is shown what they have rated, and new items can be listed.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.errors import NotPersonalisedError
from hierfed.serving.served import Served

ITEMS, NEW_ITEMS, USERS, NEW_USERS, PER_USER = 120, 20, 40, 10, 25
NODES = ("hospital", "library", "shop")
LATE_NODE = "archive"
SETTINGS = ("rank=3", "embedding_rank=4", "embedding_rounds=1", "rounds=4", "rank_items=false")


class Month:
    """The folders of a server and its nodes, and their commands."""

    def __init__(self, place: Path, seed: int = 0):
        self.place, self.rng = place, np.random.default_rng(seed)
        self.quality = self.rng.normal(0, 0.6, ITEMS + NEW_ITEMS)
        self.side = self.rng.normal(size=ITEMS + NEW_ITEMS)
        self.checks = 0

    def catalogue(self, items: int) -> None:
        """Write the server's list of items."""
        frame = {"item_id": [f"i{item:03}" for item in range(items)], "title": [f"Title {n}" for n in range(items)]}
        pl.DataFrame(frame).write_csv(self.place / "items.csv")

    def personalise(self, nodes: tuple[str, ...]) -> None:
        """Fit the users of these nodes."""
        for node in nodes:
            code, _, err = self.run("personalise", "--state", f"state-{node}")
            assert code == 0, err

    def rate(self, node: str, users: range, items: range, per_user: int) -> None:
        """Let users rate some items each, into the node's SQLite file."""
        with sqlite3.connect(self.place / f"{node}.sqlite") as database:
            database.execute("create table if not exists ratings (user text, item text, rating real, time integer)")
            known = {row[:2] for row in database.execute("select user, item from ratings")}
            for user in users:
                taste = np.random.default_rng(user).normal()
                for item in self.rng.choice(items, min(per_user, len(items)), replace=False).tolist():
                    row = (f"u{user:05}", f"i{item:03}")
                    score = 3.3 + self.quality[item] + 0.6 * taste * self.side[item] + self.rng.normal(0, 0.5)
                    if row not in known:
                        values = (*row, float(np.clip(round(2 * score) / 2, 0.5, 5)), int(time.time()))
                        database.execute("insert into ratings values (?, ?, ?, ?)", values)

    def seen(self, node: str, user: str) -> set[str]:
        """The items that a user has rated."""
        with sqlite3.connect(self.place / f"{node}.sqlite") as database:
            return {item for (item,) in database.execute("select item from ratings where user = ?", (user,))}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start `hierfed ARGUMENTS`."""
        command = [sys.executable, "-m", "hierfed", *map(str, arguments)]
        return subprocess.Popen(command, cwd=self.place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Run `hierfed ARGUMENTS`; gives exit code, standard output and standard error."""
        process = self.start(*arguments)
        out, err = process.communicate()
        return process.returncode, out, err

    def train(self, name: str, nodes: tuple[str, ...], meanwhile=lambda: None) -> float:
        """One training, to the end; gives its seconds. meanwhile: called while server and nodes are running."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        began = time.monotonic()
        sets = [part for setting in SETTINGS for part in ("--set", setting)]
        own = ["--nodes", len(nodes), "--catalogue", "items.csv", "--name", name, "--log-format", "json"]
        server = self.start("server", "--listen", f"127.0.0.1:{port}", *own, *sets)
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(server.stderr or ()))
        reader.start()
        joined = [
            self.start(
                *("node", "--server", f"127.0.0.1:{port}", "--data", f"{node}.sqlite", "--state", f"state-{node}"),
                *("--name", node, "--quiet"),
            )
            for node in nodes
        ]
        meanwhile()
        for process in joined:
            _, told = process.communicate(timeout=400)
            assert process.returncode == 0, told
        server.wait(timeout=100)
        reader.join()
        assert server.returncode == 0, lines[-3:]
        assert all({"time", "level", "message"} <= json.loads(line).keys() for line in lines), "every line is JSON"
        return time.monotonic() - began

    def ask(self, node: str, user: str, by_command: bool = False) -> list[str] | None:
        """The items recommended to a user, None where the node is not personalised yet; checks that none was rated.

        by_command: whether `hierfed recommend` is asked, as a process; else the function that it calls.
        """
        self.checks += 1
        state = self.place / f"state-{node}"
        if by_command:
            code, out, err = self.run("recommend", "--state", state, "--user", user, "--json", "-k", 20)
            assert code in (0, 3), (node, user, code, err)
            answer = json.loads(out) if code == 0 else None
        else:
            try:
                answer = asdict(Served(state).recommend(user, 20, now=int(time.time())))
            except NotPersonalisedError:
                answer = None
        if answer is None:
            return None
        items = [each["item"] for each in answer["items"]]
        seen = self.seen(node, user)
        assert answer["known"] == bool(seen), (node, user)
        assert not set(items) & seen, (node, user)
        return items


def main() -> None:
    """Two months, checked."""
    with tempfile.TemporaryDirectory() as place:
        month = Month(Path(place))
        month.catalogue(ITEMS)
        users = {node: range(1000 * n, 1000 * n + USERS) for n, node in enumerate((*NODES, LATE_NODE))}
        for node in NODES:
            month.rate(node, users[node], range(ITEMS), PER_USER)
        some = {node: [f"u{user:05}" for user in users[node][:2]] for node in users}

        seconds = month.train("2026-01", NODES)
        assert [month.ask(node, some[node][0], by_command=node == "shop") for node in NODES] == [None] * 3
        month.personalise(NODES)
        first = {user: month.ask(node, user) for node in NODES for user in some[node]}
        assert len({tuple(items or ()) for items in first.values()}) > 1, "users' lists differ"
        assert len(month.ask("shop", "nobody", by_command=True) or ()) == 20
        print(
            f"month 1: three nodes trained in {seconds:.0f} s; {len(first)} users' lists, and a newcomer's", flush=True
        )

        month.catalogue(ITEMS + NEW_ITEMS)
        new = {node: f"u{users[node].stop:05}" for node in NODES}
        for node in NODES:
            month.rate(node, range(users[node].stop, users[node].stop + NEW_USERS), range(ITEMS + NEW_ITEMS), PER_USER)
        month.rate(LATE_NODE, users[LATE_NODE], range(ITEMS + NEW_ITEMS), PER_USER)
        same = []

        def as_before() -> None:
            same.extend(month.ask(node, user) == first[user] for node in NODES for user in some[node])

        seconds = month.train("2026-02", (*NODES, LATE_NODE), as_before)
        as_before()
        assert month.ask("shop", some["shop"][0], by_command=True) == first[some["shop"][0]]
        assert all(same), "the model of month 1 serves until personalise has run"
        assert month.ask(LATE_NODE, some[LATE_NODE][0]) is None
        told = f"{len(same)} lists meanwhile and after it, all those of month 1"
        print(f"month 2: four nodes trained in {seconds:.0f} s; {told}", flush=True)

        month.personalise((*NODES, LATE_NODE))
        after = {user: month.ask(node, user) or [] for node in NODES for user in (*some[node], new[node])}
        changed = sum(items != first.get(user) for user, items in after.items())
        listed = sum(int(item[1:]) >= ITEMS for items in after.values() for item in items)
        assert listed and month.ask(LATE_NODE, some[LATE_NODE][0], by_command=True)
        _, out, _ = month.run("status", "runs/2026-02", "--json")
        status = json.loads(out)
        assert status["phase"] == "finished" and set(status["members"]) == {*NODES, LATE_NODE}
        code, _, _ = month.run("runs", "--prune", 1)
        left = sorted(path.name for path in (Path(place) / "runs").iterdir())
        assert code == 0 and left == ["2026-02"], left
        print(f"after personalise: {changed} of {len(after)} lists are new, and list new items {listed} times")
        print(f"{month.checks} answers checked: none was wrong, and none held an item that its user had rated")


if __name__ == "__main__":
    main()
