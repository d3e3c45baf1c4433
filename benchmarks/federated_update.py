"""A federation that is updated with the next block of time, beside one trained anew.

    python benchmarks/federated_update.py --data FOLDER [--processes] [--seeds 5] [--first .6] [--block .1] [--blocks 3]
        [--rounds 5] [--keeps]

All ratings in the order of time: the first part, and then blocks. Users are dealt out to three nodes by turns. The
federation of the first part is trained; for each block, one goes on from the former's model (`hierfed server --update`,
nodes with the same state) and one is trained anew over the same rows. Each is judged by its nodes on the block after,
on users' own models. The catalogue holds what has been rated so far, so new items come with each block. Settings are
the preset's, without the choice of hyperparameters that no federation makes, and without lists.

--processes: a server and nodes that are processes, over Flower. Without it, all is computed in this one, from the same
tables and to the same bits (tests/deployment/test_update.py), and a column is added: the training anew with twice the
rounds (`longer`).
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.division import load_dataset
from hierfed.data.federation import Node
from hierfed.data.growing import with_further_items
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.local_models import judged
from hierfed.deployment.plan import Plan
from hierfed.engines.going_on import resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.federated.contract import SharedModel
from hierfed.federated.method import Method, Trained
from hierfed.models.threads import one_torch_thread
from hierfed.settings import Settings, load_settings

SETTINGS = {"rank_items": False, "scale": [0.5, 5], "vote_average": "leave_out"}
NODES = 3


@dataclass(frozen=True)
class Blocks:
    """The ratings in the order of time, in a folder that tables are written into.

    rows: columns node, user, item, rating and time. ends: of the first part and each block.
    """

    place: Path
    rows: pl.DataFrame
    items: pl.DataFrame
    ends: list[int]

    def write(self, block: int) -> None:
        """Write what nodes and server have after this block: it and all before to learn from, the next to be judged."""
        learned = self.rows[: self.ends[block]]
        known = self.items.filter(pl.col("item_id").is_in(learned["item"].unique().implode()))
        known.write_parquet(self.place / "items.parquet")
        for node in range(NODES):
            parts = {"train": learned, "test": self.rows[self.ends[block] : self.ends[block + 1]]}
            for name, part in parts.items():
                part.filter(pl.col("node") == node).drop("node").write_parquet(self.place / f"{node}-{name}.parquet")


def start(place: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start `hierfed ARGUMENTS` in a folder."""
    command = [sys.executable, "-m", "hierfed", *map(str, arguments)]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def federation(place: Path, name: str, states: str, seed: int, *more: object) -> tuple[float, int, float]:
    """A federation of processes over the tables: RMSE of users' own models, rounds, and CPU seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    began = cpu()
    asked = [f"{key}={json.dumps(value).replace(' ', '')}".replace('"', "") for key, value in SETTINGS.items()]
    sets = [part for each in [*asked, f"seed={seed}"] for part in ("--set", each)]
    own = ["--listen", address, "--nodes", NODES, "--quorum", NODES, "--catalogue", "items.parquet", "--name", name]
    processes = [start(place, "server", "hierarchical", *own, *sets, *more)]
    for node in range(NODES):
        told = ["--data", f"{node}-train.parquet", "--test", f"{node}-test.parquet", "--name", f"node {node}"]
        processes.append(start(place, "node", "--server", address, *told, "--state", f"{states}-{node}"))
    for process in processes:
        _, said = process.communicate(timeout=290)
        assert process.returncode == 0, said[-2000:]
    found = json.loads((place / "runs" / name / "result.json").read_text(encoding="utf-8"))["federation"]
    return found["gain"]["rmse_after"], len(found["rounds"]), cpu() - began


def cpu() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def over_flower(blocks: Blocks, seed: int, options: argparse.Namespace) -> None:
    """Print a line for each block, by processes."""
    print(f"{'seed':>4}{'block':>6}{'updated':>9}{'anew':>9}{'difference':>12}{'rounds':>12}{'CPU s':>14}")
    kept = ("--keep-embedding",) if options.keeps else ()
    blocks.write(0)
    federation(blocks.place, "0", "state", seed)
    for block in range(1, len(blocks.ends) - 1):
        blocks.write(block)
        updated, short, few = federation(
            blocks.place, f"{block}", "state", seed, "--update", f"runs/{block - 1}", "--rounds", options.rounds, *kept
        )
        anew, long, many = federation(blocks.place, f"anew-{block}", f"anew-{block}", seed)
        costs = f"{short:6} {long:5}{few:8.1f}{many:6.1f}"
        print(f"{seed:4}{block:6}{updated:9.5f}{anew:9.5f}{updated - anew:+12.5f}{costs}", flush=True)


class OneProcess:
    """The nodes of the tables as they lie there, under one catalogue."""

    def __init__(self, place: Path, settings: Settings, catalogue: Catalogue):
        self.plan = Plan("", settings, catalogue, settings.data.limits((0.5, 5.0)), nodes=NODES)
        parts = [str(place / f"{node}-{{}}.parquet") for node in range(NODES)]
        own = [own_ratings(read_ratings(each.format("train"), test=each.format("test")), catalogue) for each in parts]
        self.nodes = [Node(number, f"node {number}", each.train, each.test) for number, each in enumerate(own)]
        self.rounds = settings.training.rounds

    @property
    def method(self) -> Method:
        """The method under the catalogue."""
        return self.plan.method

    def error(self, trained: Trained) -> float:
        """RMSE of users' own models on the test rows."""
        models = self.method.personalise(trained.shared, self.nodes, trained.private)
        sums = [
            judged(self.plan, trained.shared, model, len(node.train), node.test).arrays
            for node, model in zip(self.nodes, models, strict=True)
        ]
        return float((sum(each["squares_after"] for each in sums) / sum(each["rows"] for each in sums)) ** 0.5)


def in_one_process(blocks: Blocks, seed: int, options: argparse.Namespace) -> None:
    """Print a line for each block."""
    settings = load_settings("hierarchical", {**SETTINGS, "seed": seed})
    print(f"{'seed':>4}{'block':>6}{'updated':>9}{'anew':>9}{'longer':>9}{'difference':>12}{'CPU s':>14}")
    former: SharedModel | None = None
    catalogue: Catalogue | None = None
    with one_torch_thread():
        for block in range(len(blocks.ends) - 1):
            blocks.write(block)
            listed = read_catalogue(blocks.place / "items.parquet")
            grown = listed if catalogue is None else with_further_items(catalogue, listed.frame)
            going_on, anew = OneProcess(blocks.place, settings, grown), OneProcess(blocks.place, settings, listed)
            if former is None or catalogue is None:
                former, catalogue = run_rounds(anew.method, anew.nodes, anew.rounds).shared, grown
                continue
            began = time.process_time()
            _, updated = resumed_training(going_on.method, going_on.nodes, former, options.rounds, keeps=options.keeps)
            few, began = time.process_time() - began, time.process_time()
            trained = run_rounds(anew.method, anew.nodes, anew.rounds)
            many = time.process_time() - began
            longer = run_rounds(anew.method, anew.nodes, 2 * anew.rounds, begin=trained)
            found, other = going_on.error(updated), anew.error(trained)
            told = f"{found:9.5f}{other:9.5f}{anew.error(longer):9.5f}"
            print(f"{seed:4}{block:6}{told}{found - other:+12.5f}{few:8.1f}{many:6.1f}", flush=True)
            former, catalogue = updated.shared, grown


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="", help="a folder of ratings; the embedded data if not given")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keeps", action="store_true", help="the former embedding is kept, and only counts are made")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=float, default=0.6)
    parser.add_argument("--block", type=float, default=0.1)
    parser.add_argument("--blocks", type=int, default=3)
    asked = parser.parse_args()
    dataset = load_dataset(load_settings("hierarchical", {"data.source": asked.data} if asked.data else {}))
    ratings, items = dataset.ratings, dataset.catalogue.frame["item_id"]
    assert ratings.time is not None, "blocks of time need times"
    order = np.argsort(ratings.time, kind="stable")
    columns = {
        "node": ratings.user[order] % NODES,
        "user": dataset.user_ids.gather(ratings.user[order]),
        "item": items.gather(ratings.item[order]),
        "rating": ratings.value[order],
        "time": ratings.time[order],
    }
    ends = [int(len(order) * (asked.first + asked.block * block)) for block in range(asked.blocks + 2)]
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as place:
            blocks = Blocks(Path(place), pl.DataFrame(columns), dataset.catalogue.frame, ends)
            (over_flower if asked.processes else in_one_process)(blocks, seed, asked)


if __name__ == "__main__":
    main()
