"""Federations of real processes: the same model as in one process, whoever is killed, and nothing private is sent."""

import json
import signal
import socket
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from hierfed.data.division import assign, divide, load_dataset
from hierfed.data.federation import Node
from hierfed.engines.going_on import resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings
from tests.deployment.processes.federations import (
    ROUNDS,
    digest_of,
    free_port,
    in_process,
    in_process_digest,
    join,
    read_until,
    serve,
)
from tests.deployment.processes.proxy import Proxy

pytestmark = pytest.mark.slow


def test_the_command_has_the_digest_of_one_process(tmp_path):
    """The hierarchical model's is compared below, over kills."""
    command = [sys.executable, "-m", "hierfed"]
    asked = [*command, "federation", "paper", "--nodes", "3", "--rounds", "1", "--set", "rank_items=false"]
    ran = subprocess.run([*asked, "--out", str(tmp_path), "--json"], capture_output=True, text=True, check=True)
    settings = load_settings("paper", {"nodes": 3, "rounds": 1})
    dataset = load_dataset(settings)
    nodes, _ = assign(dataset, divide(dataset, settings), settings)
    case = Case(settings, dataset.catalogue, dataset.ratings.limits)
    method = prepare(after_earlier_stages(case, nodes)).method
    with one_torch_thread():
        expected = run_rounds(method, nodes, 1).shared.digest()
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

    # The proxy sees what there is to see: how many of the node's users have rated each item; not what they said of it.
    counts = np.zeros(40)
    np.add.at(counts, frame["item"].to_numpy() - 100, 1)
    assert b"state-1" not in sent
    assert counts.tobytes() in sent
    sums = np.zeros(40)
    np.add.at(sums, frame["item"].to_numpy() - 100, frame["rating"].to_numpy())
    assert sums.tobytes()[:32] not in sent
    for user in frame["user"].unique():
        assert user.encode() not in sent
    ratings = frame["rating"].to_numpy()
    assert all(ratings.astype(kind).tobytes()[:64] not in sent for kind in (np.float32, np.float64))
    for name, tensor in kept.items():
        rows = tensor.reshape(len(tensor), -1).numpy()
        if name != "deviation":
            assert all(row.tobytes() not in sent for row in rows), name


def test_a_federation_goes_on_from_its_model_without_users_who_were_forgotten(start, tables, tmp_path):
    gone = pl.read_parquet(tables / "1.parquet")["user"].unique().sort().head(5).to_list()

    def federation(*more):
        port = free_port()
        server = serve(start, tables, port, *more)
        nodes = [join(start, tables, port, number) for number in (1, 2, 3)]
        lines = read_until(server, "digest")
        assert [server.wait(), *(node.wait() for node in nodes)] == [0, 0, 0, 0]
        return digest_of(lines)

    federation()
    forgets = start("forget", "--state", "state-1", *(part for user in gone for part in ("--user", user)))
    told = read_until(forgets, "5 users are in the shared model until this node's next training")
    assert forgets.wait() == 0, told
    found = federation("--name", "updated", "--update", "runs/trained", "--rounds", 2)
    method, nodes = in_process(tables)
    ids = pl.read_parquet(tables / "1.parquet")["user"].unique().sort()
    left = ~ids.is_in(gone).to_numpy()[nodes[0].train.user]
    others = [Node(0, "1", nodes[0].train.take(left), nodes[0].test), *nodes[1:]]
    with one_torch_thread():
        before = run_rounds(method, nodes, ROUNDS).shared
        assert found == resumed_training(method, others, before, 2)[1].shared.digest()
