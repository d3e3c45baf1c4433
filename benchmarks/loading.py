"""How long do 25 million ratings take from a Parquet file to nodes, and from the cache, against polars' mere reading?

    python benchmarks/loading.py [--ratings 25000000] [--nodes 8 162000] [--protocol warm] [--data FOLDER] [--repeats 5]

Each takes a process of its own, by turns: polars reads four columns into NumPy arrays; for each number of nodes,
hierfed loads, divides and assigns the same file, checks and hashes and all, and then takes the same from its cache.
From the cache, every row of every node is then read once, so what is only mapped does not count as loaded: "and read"
holds that, and so do the CPU's seconds, of which "kernel" is what fresh memory and files cost. Medians of the repeats
are printed, the ratios being those within a turn, and the most memory of any repeat (ru_maxrss).

On a virtual machine whose host takes back free huge pages, which is what NumPy asks for, the kernel's share is a matter
of what ran before; NUMPY_MADVISE_HUGEPAGE=0 in the environment shows the time without them.

Without --data, users and films with long tails are drawn: --ratings over 162,000 users and 59,000 films, or as many
fewer as there are fewer ratings. With it, FOLDER holds ratings.csv or ratings.parquet, or is a table, for `hierfed run
--data`, and polars reads that file.
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
from statistics import median

import numpy as np
import polars as pl

LOAD, CACHE = "load + divide + assign", "from the cache"
WRITE = "write ratings"
AIMS = {LOAD: 3.0, CACHE: 0.3}
MOST_MEGABYTES = 3000
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
    """One of the measurements, in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(what: str, data: str, file: str, nodes: int, protocol: str) -> None:
    """What a process of its own does and prints."""
    if what != "polars":
        import hierfed.allocation_cache  # noqa: F401 - to import is no part of loading
    before = resource.getrusage(resource.RUSAGE_SELF)
    if what == "polars":
        found = {"seconds": (seconds := read_with_polars(Path(file))), "read": seconds}
    else:
        found = read_with_hierfed(data, nodes, protocol, what == CACHE)
    used = resource.getrusage(resource.RUSAGE_SELF)
    kernel = used.ru_stime - before.ru_stime
    cpu = used.ru_utime - before.ru_utime + kernel
    print(json.dumps(found | {"cpu": cpu, "kernel": kernel, "megabytes": used.ru_maxrss / 1024}))


def main() -> None:
    """Measure by turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=FULL)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 162_000])
    parser.add_argument("--protocol", default="warm")
    parser.add_argument("--data", help="a folder with ratings.csv or ratings.parquet, or a table")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == WRITE:
        write_ratings(Path(options.data), options.ratings)
        print(json.dumps({}))
        return
    if options.measure:
        measure(options.measure, options.data, options.file, options.nodes[0], options.protocol)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        data = options.data or str(Path(folder) / "ratings.parquet")
        if options.data is None:
            # A child's most memory is at least what its parent has.
            turn("--measure", WRITE, "--data", data, "--ratings", str(options.ratings))
        given = ("--data", data, "--file", file_of(Path(data)), "--protocol", options.protocol)
        turns: dict[tuple[str, int], list[dict[str, float]]] = {("polars", 0): []}
        for nodes in options.nodes:
            written = turn("--measure", CACHE, "--nodes", str(nodes), *given)
            print(f"{CACHE}, written by a first run, {nodes:,} nodes: {written['seconds']:.2f} s")
            turns |= {(name, nodes): [] for name in AIMS}
        for _ in range(options.repeats):
            for (name, nodes), found in turns.items():
                found.append(turn("--measure", name, "--nodes", str(nodes), *given))
        size = sum(path.stat().st_size for path in Path(folder, "hierfed").rglob("*") if path.is_file())
    print(f"the cache takes {size / 1e6:,.0f} MB")
    for (name, nodes), found in turns.items():
        show(f"{name}, {nodes:,} nodes" if nodes else name, found, turns["polars", 0], AIMS.get(name))
    assert all(each["cached"] for (name, _), found in turns.items() if name == CACHE for each in found)


def file_of(data: Path) -> str:
    """The file of ratings that polars reads."""
    inside = (data / name for name in ("ratings.csv", "ratings.parquet"))
    return str(next((path for path in inside if path.is_file()), data))


def show(what: str, found: list[dict[str, float]], polars: list[dict[str, float]], aim: float | None) -> None:
    """A line of the table."""
    seconds, read, cpu, kernel = (median(each[key] for each in found) for key in ("seconds", "read", "cpu", "kernel"))
    pairs = list(zip(found, polars, strict=True))
    ratio, work = (median(mine[key] / theirs[key] for mine, theirs in pairs) for key in ("seconds", "cpu"))
    megabytes = max(each["megabytes"] for each in found)
    aims = "" if aim is None else f"  (aims: <= {aim:g}, < {MOST_MEGABYTES:,} MB)"
    print(
        f"{what:38}{seconds:6.2f} s  and read {read:5.2f} s  CPU {cpu:5.2f} s (kernel {kernel:4.2f})  "
        f"{megabytes:6,.0f} MB  ratio {ratio:5.2f}, of CPU {work:5.2f}{aims}"
    )


if __name__ == "__main__":
    main()
