"""Who is not let in, and what they read; with real certificates, a real server of a network and real nodes."""

import pytest

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.keys import new_certificates, new_key, read_public_key
from hierfed.deployment.signing import fingerprint
from hierfed.engines.in_process import run_rounds
from hierfed.engines.stages import after_earlier_stages
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings
from tests.deployment.processes.federations import SCALE, digest_of, free_port, last_line, read_until

pytestmark = pytest.mark.slow


@pytest.fixture
def join(start, tables, tmp_path):
    """Start a node of its own state against a port."""

    def run(port, name, *more):
        own = ["--data", tables / "1.parquet", "--state", tmp_path / name, "--name", name, "--patience", 3]
        return start("node", "--server", f"127.0.0.1:{port}", *own, "--least-nodes", 1, "--least-raters", 1, *more)

    return run


def network_digest(tables) -> str:
    """A network's digest after one round of the first table, in one process."""
    settings, catalogue = load_settings("network", {"rounds": 1}), read_catalogue(tables / "items.csv")
    own = own_ratings(read_ratings(str(tables / "1.parquet")), catalogue)
    nodes = [Node(0, "e", own.train, own.test)]
    method = prepare(after_earlier_stages(Case(settings, catalogue, SCALE), nodes)).method
    with one_torch_thread():
        return run_rounds(method, nodes, 1).shared.digest()


def test_strangers_are_refused_in_one_line_each_and_a_known_node_is_let_in(start, join, tables, tmp_path):
    certificates = new_certificates(tmp_path / "keys", ["127.0.0.1"])
    others = new_certificates(tmp_path / "others", ["127.0.0.1"])
    known, unknown = new_key(tmp_path / "known.key"), new_key(tmp_path / "unknown.key")
    assert unknown.is_file()
    port = free_port()
    tls = ["--tls-cert", certificates.certificate, "--tls-key", certificates.key, "--ca", certificates.ca]
    options = ["--listen", f"127.0.0.1:{port}", "--nodes", 1, "--catalogue", tables / "items.csv", "--allow-key", known]
    server = start("server", "network", *options, *tls, "--set", "rounds=1")
    read_until(server, "waiting for 1 node")
    strangers = {
        "unknown key": join(port, "a", "--ca", certificates.ca, "--key", tmp_path / "unknown.key"),
        "no key": join(port, "b", "--ca", certificates.ca),
        "no TLS": join(port, "c"),
        "another authority": join(port, "d", "--ca", others.ca, "--key", tmp_path / "known.key"),
    }
    told = {name: last_line(node) for name, node in strangers.items()}
    assert "lets no node in with this key" in told["unknown key"]
    assert "hierfed keys new" in told["no key"]
    assert "speaks TLS: give --ca" in told["no TLS"]
    assert "not who it should be: unable to get local issuer certificate" in told["another authority"]
    assert server.poll() is None
    friend = join(port, "e", "--ca", certificates.ca, "--key", tmp_path / "known.key", "--test-share", 0)
    lines = read_until(server, "digest")
    assert [server.wait(), friend.wait()] == [0, 0]
    assert digest_of(lines) == network_digest(tables)
    refused = f"WARNING a node is refused: from 127.0.0.1, with the key {fingerprint(read_public_key(unknown))}"
    assert any(refused in line for line in lines), lines
