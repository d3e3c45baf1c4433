"""Federations one after another, real processes each: `python benchmarks/soak.py --federations 200` or `--hours 2`.

Prints this process's memory, descriptors, threads, listening ports and files left over after each of them, and fails
where the last quarter has more than the first one: more than 5% of memory, or any of the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.loopback import run_federation
from hierfed.engines.flower.patience import Patience
from hierfed.engines.flower.surroundings import settle
from hierfed.settings import load_settings

USERS, ITEMS, PER_USER = 24, 20, 8
SMALL = {"nodes": 3, "personal_nodes": 3, "split.protocol": "warm", "min_raters": 3}
LISTENING = "0A"
MEASURED = ("memory kB", "descriptors", "threads", "ports", "files")


def descriptors() -> list[str]:
    """The targets of this process's open descriptors."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    return found


def measure(temporary: Path) -> tuple[int, ...]:
    """This process's figures, in the order of MEASURED."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    own = descriptors()
    sockets = {
        f"socket:[{line.split()[9]}]"
        for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == LISTENING
    }
    memory = int(status["VmRSS"].split()[0])
    return (
        memory,
        len(own),
        threading.active_count(),
        len(sockets & set(own)),
        sum(1 for each in temporary.rglob("*") if each.is_file()),
    )


def main() -> None:
    """Train until the number or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--federations", type=int, default=10**6)
    parser.add_argument("--hours", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tempfile.tempdir = str(place / "temporary")
        (place / "temporary").mkdir()
        rng = np.random.default_rng(1)
        rows = [
            (user, item, float(rng.integers(1, 11) / 2))
            for user in range(USERS)
            for item in rng.choice(ITEMS, PER_USER, replace=False).tolist()
        ]
        pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row").write_csv(place / "ratings.csv")
        settings = load_settings("item_biases", {**SMALL, "data.source": str(place / "ratings.csv")})
        ends, found, digests = time.monotonic() + 3600 * given.hours, list[tuple[int, ...]](), set[str]()
        while time.monotonic() < ends and len(found) < given.federations:
            run = place / "run"
            settle(run / "flower")
            digests.add(run_federation(settings, run, ServerObserver(), Patience(deadline=60.0)).digest)
            shutil.rmtree(run)
            found.append(measure(place / "temporary"))
            told = ", ".join(f"{name} {value:,}" for name, value in zip(MEASURED, found[-1], strict=True))
            print(f"federation {len(found)}: {told}", flush=True)
    quarter = max(1, len(found) // 4)
    # The first federation loads libraries.
    first, last = (np.mean(part, axis=0) for part in (found[1 : 1 + quarter] or found, found[-quarter:]))
    grew = [
        name
        for name, before, after in zip(MEASURED, first, last, strict=True)
        if after > before * (1.05 if name == MEASURED[0] else 1.0)
    ]
    print(f"{len(found)} federations, {len(digests)} digest(s); grew: {', '.join(grew) or 'nothing'}")
    sys.exit(int(bool(grew) or len(digests) != 1))


if __name__ == "__main__":
    main()
