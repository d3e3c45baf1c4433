"""What a hundred thousand nodes and twenty-five million ratings cost, a line for each aim.

    python benchmarks/scale.py [nodes] [digests] [flower] [factors] [loading] [whole] [--out FOLDER]
                               [--python INTERPRETER] [--largest 25000000]

Without names, all of them. Each measurement is a process of its own (scaling/*.py and loading.py tell what exactly is
measured); those that are compared run one after the other.

nodes: cost per node-step of the network with 64 to 100,000 nodes. digests: of models trained on 1 and 2 threads, in
chunks of three sizes. flower: CPU seconds of 1,000 tiny clients against Flower's simulation, which INTERPRETER has
(extra `bench`). factors: rounds of the hierarchical model with every user a node, on generated ratings, which are kept
in FOLDER. loading: from a Parquet file to nodes. whole: runs with all their stages, every user of a
million ratings a node.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hierfed.generated.files import write_world

HERE = Path(__file__).parent
NODES = {64: 150, 1_000: 15, 10_000: 3, 100_000: 3}
CHUNKS = (4_096, 65_536, 1_048_576)
FULL, FULL_USERS, FULL_ITEMS = 25_000_000, 162_000, 59_000
SIZES = (100_000, 1_000_000, 5_000_000, FULL)
CONSOLE = Console(width=110)


def measure(script: str, *options: object, python: str = sys.executable) -> dict[str, Any]:
    """What a script prints as its last line, as JSON."""
    command = [python, str(HERE / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(title: str, *headings: str) -> Table:
    """An empty table whose columns are numbers."""
    made = Table(title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading, justify="right")
    return made


def nodes(options: argparse.Namespace) -> None:
    """Cost per node-step."""
    made = table(
        "a node-step of an MLP 26-64-32-1, batches of 32, 2 threads; aims: within 1.5 of 64 nodes, 4 GB",
        "nodes", "microseconds", "CPU", "times that of 64", "CPU", "floor", "seconds a round", "peak GB",
    )  # fmt: skip
    first: dict[str, Any] = {}
    for count, rounds in NODES.items():
        found = measure("scaling/networks.py", count, "--rounds", rounds)
        first = first or found
        ratios = (found[name] / first[name] for name in ("microseconds", "cpu_microseconds"))
        times = (found[name] for name in ("microseconds", "cpu_microseconds"))
        made.add_row(
            f"{count:,}",
            *(f"{each:.1f}" for each in times),
            *(f"{each:.2f}" for each in ratios),
            f"{found['floor_microseconds']:.1f}",
            f"{found['round_seconds']:.2f}",
            f"{found['peak_gbytes']:.2f}",
        )
    CONSOLE.print(made)


def digests(options: argparse.Namespace) -> None:
    """Whether threads and chunks leave the models as they are."""
    networks = {
        measure("scaling/networks.py", 1000, "--threads", threads, "--chunk-rows", chunk)["digest"]
        for threads in (1, 2)
        for chunk in CHUNKS
    }
    world = make_world(options.out, SIZES[1])
    factors = {
        measure("scaling/factors.py", world, "--rounds", 3, "--threads", threads, "--chunk-rows", chunk)["digest"]
        for threads in (1, 2)
        for chunk in CHUNKS
    }
    for name, found in (("network, 1,000 nodes", networks), ("hierarchical model, 1 million ratings", factors)):
        CONSOLE.print(f"{name}: 1 and 2 threads, chunks of {CHUNKS} ratings: {len(found)} digest(s)")


def flower(options: argparse.Namespace) -> None:
    """CPU seconds of tiny clients."""
    own = measure("scaling/clients.py", "hierfed")
    other = measure("scaling/clients.py", "flower", python=options.python)
    made = table("1,000 tiny clients x 3 rounds; aim: 100 times less CPU", "", "CPU seconds", "imports", "wall seconds")
    for found in (own, other):
        numbers = (found[name] for name in ("cpu_seconds", "import_seconds", "wall_seconds"))
        made.add_row(found["side"], *(f"{number:.2f}" for number in numbers))
    whole = [each["cpu_seconds"] + each["import_seconds"] for each in (other, own)]
    ratio = other["cpu_seconds"] / own["cpu_seconds"]
    made.add_row("times", f"{ratio:.0f}", f"with them: {whole[0] / whole[1]:.0f}", "")
    CONSOLE.print(made)


def make_world(folder: Path, ratings: int) -> Path:
    """Generated ratings in a folder of their own: as many users as MovieLens would have, and films by the root."""
    place, share = folder / f"ratings-{ratings}", ratings / FULL
    if not place.exists():
        users, items = round(FULL_USERS * share), round(FULL_ITEMS * math.sqrt(share))
        write_world(place, users=users, items=items, ratings=ratings, seed=1)
    return place


def factors(options: argparse.Namespace) -> None:
    """Rounds of the hierarchical model."""
    made = table(
        "hierarchical model, rank 8, threshold 5, every user a node, 2 threads; aims: 4 floors, 12 GB, exponent 1.05",
        "ratings", "users", "items", "seconds a round", "per million", "times the floor", "opening", "peak GB",
    )  # fmt: skip
    sizes = [size for size in SIZES if size <= options.largest]
    logs: list[tuple[float, float]] = []
    for size in sizes:
        judged = ["--judge"] if size == sizes[-1] else []
        found = measure("scaling/factors.py", make_world(options.out, size), "--rounds", 20, *judged)
        seconds, ratings = found["round_seconds"], found["ratings"]
        logs.append((math.log(ratings), math.log(seconds)))
        made.add_row(
            *(f"{found[name]:,}" for name in ("ratings", "users", "items")),
            f"{seconds:.3f}",
            f"{seconds / ratings * 1e6:.3f}",
            f"{seconds / found['floor_seconds']:.2f}",
            f"{found['opening_seconds']:.1f}",
            f"{found['peak_gbytes']:.2f}",
        )
    CONSOLE.print(made)
    if len(logs) > 1:
        CONSOLE.print(f"growth: seconds ~ ratings ^ {slope(logs):.3f}")
    over, films_known = (
        found[rmse] / found[bayes] - 1
        for rmse, bayes in (("rmse", "bayes_rmse"), ("knowing_films", "knowing_films_bayes"))
    )
    CONSOLE.print(
        f"RMSE {found['rmse']:.4f}, {over:.2%} over that of the Bayes predictor which knows the truth "
        f"({found['bayes_rmse']:.4f}; it expects {found['noise_floor']:.4f}); aim 2%. Who knows all films and "
        f"learns the users alone: {films_known:.2%} over on {found['knowing_films_users']:,} users; the best "
        f"straight lines through the truth: {found['straight_lines'] / found['knowing_films_bayes'] - 1:.2%} over"
    )


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line."""
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    products = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return products / sum((x - mean_x) ** 2 for x, _ in points)


def loading(options: argparse.Namespace) -> None:
    """Loading and dividing."""
    subprocess.run([sys.executable, HERE / "loading.py", "--ratings", str(options.largest)], check=True)


def whole(options: argparse.Namespace) -> None:
    """Whole runs."""
    made = table(
        "three rounds and all that a run does beside them, every user of a million ratings a node, 2 threads",
        "preset", "nodes", "data", "train", "personalise", "a node", "baselines", "peak GB",
    )  # fmt: skip
    for preset in ("network", "hierarchical"):
        found = measure("scaling/whole.py", preset, make_world(options.out, SIZES[1]))
        seconds = (f"{found['seconds'][stage]:.1f} s" for stage in ("data", "train", "personalise"))
        made.add_row(
            preset,
            f"{found['nodes']:,}",
            *seconds,
            f"{found['node_milliseconds']:.1f} ms",
            f"{found['seconds']['baselines']:.1f} s",
            f"{found['peak_gbytes']:.2f}",
        )
    CONSOLE.print(made)


LINES: dict[str, Callable[[argparse.Namespace], None]] = {
    line.__name__: line for line in (nodes, digests, flower, factors, loading, whole)
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="*", choices=[*LINES, []], default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--python", default=sys.executable, help="interpreter that has Flower's simulation")
    parser.add_argument("--largest", type=int, default=FULL)
    options = parser.parse_args()
    for line in options.lines or LINES:
        LINES[line](options)


if __name__ == "__main__":
    main()
