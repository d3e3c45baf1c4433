"""Federations of real processes: the same model as in one process, whoever is killed, and nothing private is sent."""

import json
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from hierfed.allocation import assign, divide, load_dataset
from hierfed.data.catalogue_file import read_catalogue
from hierfed.data.features import tally
from hierfed.data.federation import Node
from hierfed.data.own import own_ratings
from hierfed.data.sources import read_ratings
from hierfed.engines.in_process import run_rounds
from hierfed.methods import prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings
from tests.deployment.processes.conftest import SETTINGS, read_until

pytestmark = pytest.mark.slow

ROUNDS = 6
DIGEST = re.compile(r"digest ([0-9a-f]{64})")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(start, tables, port, *more):
    address = f"127.0.0.1:{port}"
    options = ["--nodes", 3, "--quorum", 3, "--catalogue", tables / "items.csv", "--name", "trained"]
    return start("server", "--listen", address, *options, "--set", f"rounds={ROUNDS}", *SETTINGS, *more)


def join(start, tables, port, number, *more):
    options = ["--data", tables / f"{number}.parquet", "--state", f"state-{number}", "--name", number]
    return start("node", "--server", f"127.0.0.1:{port}", *options, "--test-share", 0, *more)


def digest_of(lines) -> str:
    (found,) = DIGEST.findall("\n".join(lines))
    return found


def in_process_digest(tables) -> str:
    """What the three tables give in one process."""
    overrides = dict(assignment.split("=") for assignment in SETTINGS[1::2])
    settings = load_settings("hierarchical", {key: json.loads(value) for key, value in overrides.items()})
    catalogue = read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(tables / f"{number}.parquet")), catalogue) for number in (1, 2, 3)]
    nodes = [Node(place, str(place + 1), each.train, each.test) for place, each in enumerate(own)]
    limits = min(each.limits[0] for each in own), max(each.limits[1] for each in own)
    method = prepare(settings, catalogue, limits, tally((node.train for node in nodes), len(catalogue))).method
    with one_torch_thread():
        return run_rounds(method, nodes, ROUNDS).shared.digest()


@pytest.mark.parametrize("preset", [("paper", 2), ("hierarchical", 3)], ids=lambda preset: preset[0])
def test_the_same_digest_as_in_one_process(preset, tmp_path):
    name, rounds = preset
    command = [sys.executable, "-m", "hierfed"]
    more = ["--set", "rank_items=false", "--out", str(tmp_path), "--json"]
    asked = [*command, "federation", name, "--nodes", "3", "--rounds", str(rounds), *more]
    ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    settings = load_settings(name, {"nodes": 3, "rounds": rounds})
    dataset = load_dataset(settings)
    nodes, _ = assign(dataset, divide(dataset, settings), settings)
    tallies = tally((node.train for node in nodes), dataset.items)
    method = prepare(settings, dataset.catalogue, dataset.ratings.limits, tallies).method
    with one_torch_thread():
        expected = run_rounds(method, nodes, rounds).shared.digest()
    assert json.loads(ran.stdout)["digest"] == expected


def test_server_and_node_are_killed_in_a_round_and_the_model_is_the_same(start, tables, tmp_path):
    port = free_port()
    first = serve(start, tables, port)
    nodes = {number: join(start, tables, port, number) for number in (1, 2, 3)}
    read_until(first, "round 1:")
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = serve(start, tables, port)
    lines = read_until(again, "rating, round 3:")
    assert any("goes on after round" in line for line in lines)
    nodes[2].send_signal(signal.SIGKILL)
    nodes[2].wait()
    nodes[2] = join(start, tables, port, 2)
    lines += read_until(again, "digest")
    assert again.wait() == 0
    assert digest_of(lines) == in_process_digest(tables)
    for node in nodes.values():
        assert node.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    files = [path for path in tmp_path.rglob("state-*/**/*") if path.is_file()]
    private = [path for path in files if "rounds" in path.parts or path.name == "node.json"]
    assert private
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_a_round_goes_on_without_a_killed_node_where_a_quorum_is_there(start, tables):
    port = free_port()
    server = serve(start, tables, port, "--quorum", 2)
    nodes = [join(start, tables, port, number) for number in (1, 2, 3)]
    read_until(server, "round 1:")
    nodes[2].send_signal(signal.SIGKILL)
    lines = read_until(server, "digest")
    assert server.wait() == 0
    assert any("2 nodes" in line for line in lines)
    assert any("node 3 is gone" in line for line in lines)
    assert [node.wait() for node in nodes[:2]] == [0, 0]


def test_what_a_node_sends_holds_nothing_private(start, tables, tmp_path):
    port, proxy = free_port(), Proxy()
    server = serve(start, tables, port)
    proxy.forward_to(port)
    nodes = [join(start, tables, proxy.port, 1), *(join(start, tables, port, number) for number in (2, 3))]
    read_until(server, "digest")
    assert [server.wait(), *(node.wait() for node in nodes)] == [0, 0, 0, 0]
    sent = proxy.close()
    frame = pl.read_parquet(tables / "1.parquet")
    kept = load_file(tmp_path / "state-1" / "rounds" / f"rating.{ROUNDS}.safetensors")

    # The proxy sees what there is to see: the node's name, and its tally of ratings by item.
    counts = np.zeros(40)
    np.add.at(counts, frame["item"].to_numpy() - 100, 1)
    assert b"state-1" not in sent
    assert counts.tobytes() in sent
    for user in frame["user"].unique():
        assert user.encode() not in sent
    ratings = frame["rating"].to_numpy()
    assert all(ratings.astype(kind).tobytes()[:64] not in sent for kind in (np.float32, np.float64))
    for name, tensor in kept.items():
        rows = tensor.reshape(len(tensor), -1).numpy()
        if name != "deviation":
            assert all(row.tobytes() not in sent for row in rows), name


class Proxy:
    """Hands bytes on between a node and its server, and keeps those that the node sends."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sent: list[bytes] = []
        self._closed = threading.Event()

    def forward_to(self, port: int) -> None:
        self._server_port = port
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> bytes:
        self._closed.set()
        self._listener.close()
        return b"".join(self._sent)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pump, args=(client,), daemon=True).start()

    def _pump(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        with client, server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    content = key.fileobj.recv(1 << 16)
                    if not content:
                        return
                    if key.fileobj is client:
                        self._sent.append(content)
                    key.data.sendall(content)
