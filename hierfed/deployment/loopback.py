"""A whole federation on this machine, to try it out: a real server, and each node in its own process."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from hierfed.data.division import assign, divide, load_dataset, with_own_protocol
from hierfed.data.federation import Node
from hierfed.data.ratings import Dataset, Ratings
from hierfed.data.reading.download import Progress
from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.hosting import Hosting, host
from hierfed.engines.flower.patience import Patience
from hierfed.errors import HierfedError
from hierfed.leash import start_leashed, stop_leashed
from hierfed.results import Result
from hierfed.settings import Settings

NODES, STATE, LOG = "nodes", "state", "node.log"
COMMAND = "hierfed.cli:main"
ENDS_WITHIN = 30.0


def run_federation(
    settings: Settings, folder: Path, observer: ServerObserver, patience: Patience, progress: Progress | None = None
) -> Result:
    """Divide the settings' data among nodes, and let server and nodes train; gives the same model as `hierfed run`.

    Each node's table and state lie in `folder/nodes/NAME`. Raises HierfedError for a node that ends too early.
    """
    dataset = load_dataset(settings, progress)
    settings = _with_scale(_personalised_where_trained(with_own_protocol(settings, dataset)), dataset)
    nodes, _ = assign(dataset, divide(dataset, settings), settings)
    port = _free_port()
    for node in nodes:
        _write_tables(dataset, node, folder / NODES / node.name)
    with _processes(nodes, folder, port, settings) as processes:

        class NodeProcessObserver(ServerObserver):
            """The given observer, which also notices nodes that have failed."""

            tell, warn, on_change = observer.tell, observer.warn, observer.on_change
            on_plan, on_round = observer.on_plan, observer.on_round

            def check(self) -> None:
                for name, process in processes.items():
                    if process.poll():
                        raise HierfedError(f"node {name} has failed: {_last_line(folder / NODES / name / LOG)}")

        hosting = Hosting("127.0.0.1", port)
        return host(
            settings, dataset.catalogue, folder, hosting, len(nodes), len(nodes), patience, NodeProcessObserver()
        )


def _personalised_where_trained(settings: Settings) -> Settings:
    """The same nodes for training and personalisation, if the protocol has the same users in both."""
    how, count = settings.federation.partition, settings.federation.nodes
    if how == "rows":
        return settings
    same = {"personal_partition": how, "personal_nodes": count}
    return settings.model_copy(update={"personalisation": settings.personalisation.model_copy(update=same)})


def _with_scale(settings: Settings, dataset: Dataset) -> Settings:
    """The settings with the scale of the ratings, by default of those that occur.

    Under secure sums no node tells its own.
    """
    scale = settings.data.limits(dataset.ratings.limits)
    return settings.model_copy(update={"data": settings.data.model_copy(update={"scale": scale})})


@contextmanager
def _processes(
    nodes: Sequence[Node], folder: Path, port: int, settings: Settings
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for node in nodes:
            place = folder / NODES / node.name
            arguments = ["node", "--server", f"127.0.0.1:{port}", "--name", node.name]
            arguments += ["--data", str(place / "ratings.parquet"), "--state", str(place / STATE)]
            arguments += ["--test", str(place / "test.parquet")] if len(node.test) else ["--test-share", "0"]
            # All are of one person, who has chosen the settings.
            arguments += ["--least-nodes", "1", "--least-raters", str(max(settings.factors.min_raters, 1))]
            with (place / LOG).open("wb") as log:
                started[node.name] = start_leashed(COMMAND, arguments, log, {})
        yield started
        for process in started.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_WITHIN)
    finally:
        for process in started.values():
            stop_leashed(process)


def _write_tables(dataset: Dataset, node: Node, place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o700)
    items = dataset.catalogue.frame["item_id"]

    def write(rows: Ratings, name: str) -> None:
        columns = {"user": dataset.user_ids.gather(rows.user), "item": items.gather(rows.item), "rating": rows.value}
        times = {} if rows.time is None else {"timestamp": rows.time}
        pl.DataFrame(columns | times).write_parquet(place / f"{name}.parquet")

    write(node.train, "ratings")
    if len(node.test):
        write(node.test, "test")


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    messages = [line.removeprefix("error: ") for line in lines if line.strip()]
    return messages[-1] if messages else f"see {path}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
