"""How long do 25 million ratings take from a Parquet file to nodes, and from the cache, against polars' mere reading?

    python benchmarks/loading.py [--ratings 25000000] [--nodes 8] [--protocol warm] [--data FOLDER] [--repeats 3]

Each of three takes a process of its own, by turns: polars reads four columns into NumPy arrays; hierfed loads, divides
and assigns the same file, checks and hashes and all; hierfed takes the same from its cache. From the cache, every row
of every node is then read once, so what is only mapped does not count as loaded: "and read" holds that, and so do the
CPU's seconds. The least seconds of the repeats and the most memory of any are printed, with the ratios to polars'
seconds.

Without --data, users and films with long tails are drawn: --ratings over 162,000 users and 59,000 films, or as many
fewer as there are fewer ratings. With it, FOLDER holds ratings.csv or a table, for `hierfed run --data`, and polars
reads the Parquet file or CSV beside it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

AIMS = {"load + divide + assign": 3.0, "from the cache": 0.3}
COLUMNS = ("userId", "movieId", "rating", "timestamp")
FULL = 25_000_000


def write_ratings(path: Path, rows: int) -> None:
    """A table sorted by user and film, no pair twice; users have 20 ratings or more, films long tails."""
    rng = np.random.default_rng(0)
    users, films = max(rows * 162_000 // FULL, 10), max(rows * 59_000 // FULL, 2_000)
    activity = rng.lognormal(0, 1.2, users)
    counts = np.minimum(20 + (activity / activity.sum() * max(rows - 20 * users, 0)).astype(np.int64), films // 4)
    popularity = np.cumsum((np.arange(films) + 30.0) ** -1.1)
    user = np.repeat(np.arange(users), counts)
    pairs = np.empty(0, np.int64)
    while len(pairs) < rows:
        drawn = user if not len(pairs) else rng.choice(user, int(1.5 * (rows - len(pairs))) + 10)
        film = np.searchsorted(popularity, rng.random(len(drawn)) * popularity[-1])
        pairs = np.unique(np.concatenate([pairs, drawn * films + film]))
    pairs = np.delete(pairs, rng.choice(len(pairs), len(pairs) - rows, replace=False))
    user, film = np.divmod(pairs, films)
    frame = pl.DataFrame(
        {
            "userId": (user + 1).astype(np.int32),
            "movieId": np.sort(rng.choice(4 * films, films, replace=False)).astype(np.int32)[film],
            "rating": (np.clip(np.round(rng.normal(7, 2, rows)), 1, 10) / 2).astype(np.float32),
            "timestamp": rng.integers(8 * 10**8, 15 * 10**8, users)[user] + rng.integers(0, 10**6, rows),
        }
    )
    frame.write_parquet(path)


def read_with_polars(path: Path) -> float:
    """Seconds in which polars alone reads the columns into arrays."""
    began = time.perf_counter()
    frame = pl.read_csv(path, columns=list(COLUMNS)) if path.suffix == ".csv" else pl.read_parquet(path)
    arrays = [frame[name].to_numpy() for name in frame.columns]
    assert len({len(array) for array in arrays}) == 1
    return time.perf_counter() - began


def read_with_hierfed(data: str, nodes: int, protocol: str, cached: bool) -> dict[str, float]:
    """Seconds until there are nodes, and until every row of every node was read too."""
    from hierfed.allocation_cache import allocate_cached
    from hierfed.settings import load_settings

    told = []
    settings = load_settings(
        "hierarchical",
        {
            "data.source": data,
            "data.cache": cached,
            "split.protocol": protocol,
            "nodes": nodes,
            "partition": "users",
            "personal_nodes": nodes,
        },
    )
    began = time.perf_counter()
    allocation = allocate_cached(settings, tell=told.append)
    seconds = time.perf_counter() - began
    for rows in (allocation.nodes.train.ratings, allocation.nodes.test.ratings):
        for column in (rows.user, rows.item, rows.value, rows.time):
            if column is not None:
                column.sum()
    return {"seconds": seconds, "read": time.perf_counter() - began, "cached": float(any("read" in t for t in told))}


def turn(*arguments: str) -> dict[str, float]:
    """One of the three in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(what: str, data: str, file: str, nodes: int, protocol: str) -> None:
    """What a process of its own does and prints."""
    before = time.process_time()
    if what == "polars":
        found = {"seconds": (seconds := read_with_polars(Path(file))), "read": seconds}
    else:
        found = read_with_hierfed(data, nodes, protocol, what == "from the cache")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(found | {"cpu": used.ru_utime + used.ru_stime - before, "megabytes": used.ru_maxrss / 1024}))


def main() -> None:
    """Measure by turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=FULL)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--protocol", default="warm")
    parser.add_argument("--data", help="a folder with ratings.csv, or a table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.data, options.file, options.nodes, options.protocol)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        data = options.data or str(Path(folder) / "ratings.parquet")
        if options.data is None:
            write_ratings(Path(data), options.ratings)
        file = str(Path(data) / "ratings.csv") if Path(data).is_dir() else data
        given = ("--data", data, "--file", file, "--nodes", str(options.nodes), "--protocol", options.protocol)
        writing = turn("--measure", "from the cache", *given)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in ("polars", *AIMS)}
        for _ in range(options.repeats):
            for name, found in turns.items():
                found.append(turn("--measure", name, *given))
        size = sum(path.stat().st_size for path in Path(folder, "hierfed").rglob("*") if path.is_file())
    polars = min(found["seconds"] for found in turns["polars"])
    for name, found in turns.items():
        seconds, read, cpu = (min(each[key] for each in found) for key in ("seconds", "read", "cpu"))
        memory = max(each["megabytes"] for each in found)
        aim = f"  (aim: <= {AIMS[name]:g})" if name in AIMS else ""
        print(
            f"{name:24}{seconds:7.2f} s  and read {read:6.2f} s  CPU {cpu:6.2f} s  {memory:6.0f} MB  "
            f"ratio {seconds / polars:5.2f}{aim}"
        )
    print(f"{'first run, cache written':24}{writing['seconds']:7.2f} s  the cache takes {size / 1e6:,.0f} MB")
    assert all(each["cached"] for each in turns["from the cache"])


if __name__ == "__main__":
    main()
