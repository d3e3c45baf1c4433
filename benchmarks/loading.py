"""Times the way of 25 million ratings from a Parquet file to nodes, against polars' mere reading.

    python benchmarks/loading.py [--ratings 25000000] [--nodes 8 162000] [--protocol warm] [--data FOLDER] [--repeats 5]

Each takes a process of its own, by turns: polars reads four columns into NumPy arrays; for each number of nodes,
hierfed loads, divides and assigns the same file, checks and hashes and all. Of the CPU's seconds, "kernel" is what
fresh memory and files cost. Medians of the repeats are printed, the ratios being those within a turn, and the most
memory of any repeat (ru_maxrss).

On a virtual machine whose host takes back free huge pages, which is what NumPy asks for, the kernel's share is a matter
of what ran before; NUMPY_MADVISE_HUGEPAGE=0 in the environment shows the time without them.

Without --data, users and films with long tails are drawn: --ratings over 162,000 users and 59,000 films, or as many
fewer as there are fewer ratings. With it, FOLDER holds ratings.csv or ratings.parquet, or is a table, for `hierfed run
--data`, and polars reads that file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

LOAD = "load + divide + assign"
WRITE = "write ratings"
AIM = 3.0
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


def read_with_hierfed(data: str, nodes: int, protocol: str) -> float:
    """Seconds until there are nodes."""
    from hierfed.data.division import allocate, load_dataset
    from hierfed.settings import load_settings

    settings = load_settings(
        "hierarchical",
        {
            "data.source": data,
            "split.protocol": protocol,
            "nodes": nodes,
            "partition": "users",
            "personal_nodes": nodes,
        },
    )
    began = time.perf_counter()
    allocate(load_dataset(settings), settings)
    return time.perf_counter() - began


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
        import hierfed.data.division  # noqa: F401 - to import is no part of loading
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = read_with_polars(Path(file)) if what == "polars" else read_with_hierfed(data, nodes, protocol)
    used = resource.getrusage(resource.RUSAGE_SELF)
    kernel = used.ru_stime - before.ru_stime
    cpu = used.ru_utime - before.ru_utime + kernel
    print(json.dumps({"seconds": seconds, "cpu": cpu, "kernel": kernel, "megabytes": used.ru_maxrss / 1024}))


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
        data = options.data or str(Path(folder) / "ratings.parquet")
        if options.data is None:
            # A child's most memory is at least what its parent has.
            turn("--measure", WRITE, "--data", data, "--ratings", str(options.ratings))
        given = ("--data", data, "--file", file_of(Path(data)), "--protocol", options.protocol)
        turns: dict[tuple[str, int], list[dict[str, float]]] = {("polars", 0): []}
        for nodes in options.nodes:
            turns[LOAD, nodes] = []
        for _ in range(options.repeats):
            for (name, nodes), found in turns.items():
                found.append(turn("--measure", name, "--nodes", str(nodes), *given))
    for (name, nodes), found in turns.items():
        show(f"{name}, {nodes:,} nodes" if nodes else name, found, turns["polars", 0], AIM if nodes else None)


def file_of(data: Path) -> str:
    """The file of ratings that polars reads."""
    inside = (data / name for name in ("ratings.csv", "ratings.parquet"))
    return str(next((path for path in inside if path.is_file()), data))


def show(what: str, found: list[dict[str, float]], polars: list[dict[str, float]], aim: float | None) -> None:
    """A line of the table."""
    seconds, cpu, kernel = (median(each[key] for each in found) for key in ("seconds", "cpu", "kernel"))
    pairs = list(zip(found, polars, strict=True))
    ratio, work = (median(mine[key] / theirs[key] for mine, theirs in pairs) for key in ("seconds", "cpu"))
    megabytes = max(each["megabytes"] for each in found)
    aims = "" if aim is None else f"  (aims: <= {aim:g}, < {MOST_MEGABYTES:,} MB)"
    print(
        f"{what:38}{seconds:6.2f} s  CPU {cpu:5.2f} s (kernel {kernel:4.2f})  "
        f"{megabytes:6,.0f} MB  ratio {ratio:5.2f}, of CPU {work:5.2f}{aims}"
    )


if __name__ == "__main__":
    main()
