"""Real edges: two, of three nodes each, with TLS and keys on both sides; one is killed and started again."""

import json
import signal

import polars as pl
import pytest

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.keys import new_certificates, new_key
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.exact_sum import EXACT_SUM
from hierfed.federated.tree import TreeSum
from hierfed.models.threads import one_torch_thread
from tests.deployment.processes.federations import ROUNDS, SETTINGS, digest_of, free_port, in_process, read_until

pytestmark = pytest.mark.slow

GROUPS = {"north": ("1", "2", "3"), "south": ("4", "5", "6")}
NODES = [name for group in GROUPS.values() for name in group]
EXACT = ("--set", f"rounds={ROUNDS}", "--set", "rule=exact_sum", *SETTINGS)


@pytest.fixture(scope="module")
def sixths(tables, tmp_path_factory):
    """Six nodes' tables: the users of the three tables, dealt out."""
    folder = tmp_path_factory.mktemp("sixths")
    rows = pl.concat([pl.read_parquet(tables / f"{number}.parquet") for number in (1, 2, 3)])
    dealt = rows.with_columns(part=pl.col("user").rank("dense") % len(NODES))
    for place, name in enumerate(NODES):
        dealt.filter(pl.col("part") == place).drop("part").write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture
def keys(tmp_path):
    """A certificate for server and edges, and everybody's keys."""
    for name in (*GROUPS, *NODES):
        new_key(tmp_path / f"{name}.key")
    return new_certificates(tmp_path / "keys", ["127.0.0.1"])


def digest_in_process(tables, sixths, rule) -> str:
    method, _ = in_process(tables)
    catalogue = read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(sixths / f"{name}.parquet")), catalogue) for name in NODES]
    nodes = [Node(place, NODES[place], each.train, each.test) for place, each in enumerate(own)]
    with one_torch_thread():
        return run_rounds(method, nodes, ROUNDS, how=Round(rule)).shared.digest()


def test_an_edge_that_is_killed_and_started_again_changes_nothing(start, tables, sixths, keys, tmp_path):
    port, ports = free_port(), {name: free_port() for name in GROUPS}
    tls = ["--tls-cert", keys.certificate, "--tls-key", keys.key]
    allowed = [word for name in GROUPS for word in ("--allow-key", tmp_path / f"{name}.key.pub")]
    options = ["--listen", f"127.0.0.1:{port}", "--nodes", 6, "--quorum", 6, "--catalogue", tables / "items.csv"]
    server = start("server", *options, *tls, "--ca", keys.ca, *allowed, *EXACT, "--name", "trained")

    def edge(name):
        own = ["--upstream", f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{ports[name]}", "--ca", keys.ca]
        own += ["--key", tmp_path / f"{name}.key", *tls, "--tls-ca", keys.ca, "--quorum", 3]
        own += [word for node in GROUPS[name] for word in ("--allow-key", tmp_path / f"{node}.key.pub")]
        return start("edge", *own, "--state", f"state-{name}", "--name", name, afresh=name == "north")

    def node(name, at):
        own = ["--server", f"127.0.0.1:{at}", "--ca", keys.ca, "--key", tmp_path / f"{name}.key", "--name", name]
        own += ["--data", sixths / f"{name}.parquet", "--state", f"state-{name}", "--test-share", 0]
        return start("node", *own, "--least-raters", 1)

    edges = {name: edge(name) for name in GROUPS}
    nodes = [node(each, ports[name]) for name, group in GROUPS.items() for each in group]
    lines = read_until(server, "rating, round 2:")
    edges["south"].send_signal(signal.SIGKILL)
    edges["south"].wait()
    edges["south"] = edge("south")
    lines += read_until(server, "digest")
    assert [process.wait() for process in (server, *edges.values(), *nodes)] == [0] * 9
    assert any("edge south is gone" in line for line in lines)
    assert not any("keys are allowed" in line for line in lines)
    expected = digest_in_process(tables, sixths, EXACT_SUM)
    assert digest_in_process(tables, sixths, TreeSum(3)) == expected
    assert digest_of(lines) == expected
    rounds = json.loads(next(tmp_path.rglob("trained/result.json")).read_text())["federation"]["rounds"]
    assert all(sorted(each["contributors"]) == NODES for each in rounds if not each["abandoned"])
