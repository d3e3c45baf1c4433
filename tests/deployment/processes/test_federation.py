"""A federation of real processes: the same model as in one process, whoever is killed, and nothing private is sent.

That of a network is in test_silence, that of `hierfed federation` in the tutorial of three companies.
"""

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from leaks.wire import Listener
from safetensors.torch import load_file

from hierfed.data.federation import Node
from hierfed.deployment.keys import new_certificates
from hierfed.engines.going_on import resumed_training
from hierfed.engines.in_process import run_rounds
from hierfed.federated.method import Trained
from hierfed.models.threads import one_torch_thread
from tests.deployment.processes.conftest import Start, processes
from tests.deployment.processes.federations import (
    ROUNDS,
    digest_of,
    free_port,
    in_process,
    join,
    last_line,
    overheard,
    read_until,
    serve,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ended:
    """A federation that is over, whose server and second node were killed and started again.

    folder: where its processes worked. start: starts more of them there.
    lines: what its last server said. codes: how server and nodes ended.
    sent, received: all bytes of node 1, by connection. stranger: what a node that wanted TLS was told.
    """

    folder: Path
    start: Start
    port: int
    lines: list[str]
    codes: list[int]
    sent: list[bytes]
    received: list[bytes]
    stranger: str


@pytest.fixture(scope="module")
def ended(parent, tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended")
    with processes(parent, folder) as start:
        listener = Listener(port := free_port())
        first = serve(start, tables, port)
        nodes = {2: join(start, tables, port, 2), 3: join(start, tables, port, 3, afresh=True)}
        nodes[1] = join(start, tables, listener.port, 1)
        read_until(first, "round 1:")
        first.send_signal(signal.SIGKILL)
        first.wait()
        again = serve(start, tables, port, afresh=True)
        lines = read_until(again, "rating, round 3:")
        nodes[2].send_signal(signal.SIGKILL)
        nodes[2].wait()
        # The server waits for the node that it lost; a stranger comes first.
        stranger = join(start, tables, port, 1, "--state", "stranger", "--ca", authority(folder))
        told = last_line(stranger)
        nodes[2] = join(start, tables, port, 2)
        lines += read_until(again, "digest")
        codes = [process.wait() for process in (again, *nodes.values())]
        yield Ended(folder, start, port, lines, codes, *listener.close(), told)


def authority(folder: Path) -> Path:
    return new_certificates(folder / "keys", ["127.0.0.1"]).ca


@pytest.fixture(scope="module")
def trained(tables) -> Trained:
    """What the three tables give in one process."""
    method, nodes = in_process(tables)
    with one_torch_thread():
        return run_rounds(method, nodes, ROUNDS)


def test_server_and_node_are_killed_in_a_round_and_the_model_is_the_same(ended, trained):
    assert any("goes on after round" in line for line in ended.lines)
    assert digest_of(ended.lines) == trained.shared.digest()
    assert ended.codes == [0, 0, 0, 0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ended.port))


def test_private_state_is_readable_by_its_owner_alone(ended):
    files = [path for path in ended.folder.rglob("state-*/**/*") if path.is_file()]
    private = [path for path in files if "rounds" in path.parts or path.name == "node.json"]
    assert private
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_a_node_that_wants_tls_is_told_of_a_server_without(ended):
    assert "does not speak TLS" in ended.stranger


def test_what_a_node_sends_holds_nothing_private(ended, tables):
    sent, told = b"".join(ended.sent), overheard(tables, ended.sent, ended.received)
    assert told.found == []
    assert told.messages > 2 * ROUNDS
    assert told.counts > 0
    frame = pl.read_parquet(tables / "1.parquet")
    kept = load_file(ended.folder / "state-1" / "rounds" / f"rating.{ROUNDS}.safetensors")

    # Who listens sees how many of the node's users have rated each item; not what they said of it.
    counts = np.zeros(42)
    np.add.at(counts, frame["item"].to_numpy() - 100, 1)
    assert b"state-1" not in sent
    assert counts.tobytes() in sent
    sums = np.zeros(42)
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


def test_a_federation_goes_on_from_its_model_without_users_who_were_forgotten(ended, trained, tables):
    """This test comes last: the users are gone from node 1's state, too."""
    ids = pl.read_parquet(tables / "1.parquet")["user"].unique().sort()
    gone = ids.head(5).to_list()
    forgets = ended.start("forget", "--state", "state-1", *(part for user in gone for part in ("--user", user)))
    told = read_until(forgets, "5 users are in the shared model until this node's next training")
    assert forgets.wait() == 0, told
    port = free_port()
    # Its settings and its catalogue are the former ones.
    more = ("--listen", f"127.0.0.1:{port}", "--nodes", 3, "--quorum", 3, "--rounds", 2)
    server = ended.start("server", "--update", "runs/trained", *more)
    others = [join(ended.start, tables, port, number) for number in (1, 2, 3)]
    lines = read_until(server, "digest")
    assert [server.wait(), *(node.wait() for node in others)] == [0, 0, 0, 0]
    method, nodes = in_process(tables)
    left = ~ids.is_in(gone).to_numpy()[nodes[0].train.user]
    nodes = [Node(0, "1", nodes[0].train.take(left), nodes[0].test), *nodes[1:]]
    with one_torch_thread():
        assert digest_of(lines) == resumed_training(method, nodes, trained.shared, 2)[1].shared.digest()
