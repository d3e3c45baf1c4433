"""The commands of a federation: whatever is wrong is one clear line, before anything begins."""

from __future__ import annotations

import importlib.util
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.deployment.hosting import is_this_machine
from hierfed.deployment.keys import new_certificates, new_key
from hierfed.deployment.state import NodeState, Origin
from tests.commands import Finished, Hierfed, caller

RATINGS = "user,item,rating\n" + "".join(f"{u},{i},{1 + (u * i) % 5}\n" for u in range(9) for i in range(1, 6))


@pytest.fixture
def hierfed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Hierfed]:
    """Run a command in this process, in a folder of its own with ratings, keys, certificates and a catalogue."""
    import logging
    import signal

    from flwr.supercore import logger

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FLWR_HOME", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK"):
        monkeypatch.setenv(name, "")
    handlers, level, before = logger.FLOWER_LOGGER.handlers, logging.getLogger("httpx").level, {}
    before[signal.SIGTERM] = signal.getsignal(signal.SIGTERM)
    (tmp_path / "r.csv").write_text(RATINGS)
    (tmp_path / "junk").write_text("no key, no certificate, no catalogue\n")
    new_key(tmp_path / "a.key")
    new_certificates(tmp_path / "tls", ["localhost"])
    yield caller(monkeypatch, capsys)
    for number, handler in before.items():
        signal.signal(number, handler)
    logger.FLOWER_LOGGER.handlers = handlers
    logging.getLogger("httpx").setLevel(level)


def assert_refused(found: Finished, *parts: str, code: int = 2) -> None:
    lines = [line for line in found.err.splitlines() if not line.startswith("listens at ")]
    assert found.code == code, found.err
    assert found.out == ""
    assert len(lines) == 1, found.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


SERVER = ("server", "network", "--data", "r.csv")
TLS = ("--tls-cert", "tls/server.pem", "--tls-key", "tls/server.key", "--ca", "tls/ca.pem")


@pytest.mark.parametrize(
    "listen",
    ["9092", "localhost", ":9092", "localhost:", "localhost:http", "127.0.0.1:70000", "127.0.0.1:-1", "a:²", ""],
)
def test_a_server_needs_a_host_and_a_port(hierfed, listen, tmp_path):
    assert_refused(hierfed(*SERVER, "--listen", listen), f"--listen {listen}: expected HOST:PORT")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ("--tls-cert, --tls-key and --ca",)),
        (("--allow-key", "a.key.pub"), ("--tls-cert, --tls-key and --ca",)),
        (TLS, ("--allow-key for each node",)),
    ],
)
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "[::]"])
def test_other_machines_are_served_with_tls_and_keys_alone(hierfed, host, options, parts):
    found = hierfed(*SERVER, "--listen", f"{host}:9092", *options)
    assert_refused(found, "other machines reach it", "`hierfed keys`", "--insecure", *parts)


@pytest.mark.parametrize("left_out", [0, 2, 4])
def test_tls_needs_all_three_files(hierfed, left_out):
    options = TLS[:left_out] + TLS[left_out + 2 :]
    assert_refused(hierfed(*SERVER, *options), "TLS needs all of --tls-cert, --tls-key and --ca")
    assert_refused(hierfed(*SERVER, *TLS[left_out : left_out + 2]), "TLS needs all of --tls-cert, --tls-key and --ca")


@pytest.mark.parametrize("missing", [1, 3, 5])
def test_tls_files_that_are_not_there_are_named(hierfed, missing):
    options = list(TLS)
    options[missing] = "nowhere.pem"
    assert_refused(hierfed(*SERVER, *options), "nowhere.pem: no such file", "`hierfed keys server HOST`")


def test_a_certificate_that_has_expired_is_named(hierfed, tmp_path):
    expired = new_certificates(tmp_path / "expired", ["127.0.0.1"], days=-2)
    tls = ("--tls-cert", expired.certificate, "--tls-key", expired.key, "--ca", expired.ca)
    assert_refused(hierfed(*SERVER, *map(str, tls)), "expired", str(expired.certificate), code=1)


@pytest.mark.parametrize("path", ["nowhere.pub", "junk", "a.key"])
def test_keys_that_are_none_are_named(hierfed, path):
    found = hierfed(*SERVER, "--allow-key", path)
    assert_refused(found, f"--allow-key {path}: no public key of a node", code=1)
    assert "BEGIN" not in found.err


def test_a_port_that_is_taken_is_named(hierfed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = hierfed(*SERVER, "--listen", address)
    assert_refused(found, f"cannot listen at {address}", "choose another --listen", code=1)


@pytest.mark.parametrize(("path", "part"), [("nowhere.csv", "nowhere.csv"), ("junk", "junk"), ("r.csv", "item_id")])
def test_a_catalogue_that_is_none_is_named(hierfed, path, part):
    assert_refused(hierfed("server", "network", "--catalogue", path), part)


@pytest.mark.parametrize(
    "words",
    [
        ("server", "local", "--data", "r.csv"),
        ("federation", "local", "--data", "r.csv", "--set", "personal_nodes=2"),
    ],
)
def test_a_method_that_sends_nothing_needs_no_federation(hierfed, words):
    assert_refused(hierfed(*words), "method 'local' sends nothing", "hierfed run local")


@pytest.mark.parametrize("command", ["server", "federation"])
@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("nothing",), "no preset 'nothing'"),
        (("network", "--data", "nowhere"), "no such data: 'nowhere'"),
        (("network", "--set", "raunds=3"), "unknown setting 'raunds'"),
        (("network", "--set", "rounds=0"), "training.rounds"),
    ],
)
def test_settings_and_data_that_are_none_are_named(hierfed, command, options, part):
    assert_refused(hierfed(command, *options), part)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("server", "--nodes", "0"), "--nodes"),
        (("server", "--quorum", "0"), "--quorum"),
        (("server", "--rounds", "2"), "--rounds goes with --update"),
        (("server", "--keep-embedding"), "--keep-embedding goes with --update"),
        (("server", "--deadline", "0"), "--deadline"),
        (("federation", "--nodes", "0"), "--nodes"),
        (("federation", "--rounds", "0"), "--rounds"),
        (("node", "--server", "localhost:1", "--data", "r.csv", "--state", "s", "--test-share", "1"), "--test-share"),
        (("node", "--server", "localhost:1", "--data", "r.csv", "--state", "s", "--patience", "0"), "--patience"),
        (("node", "--data", "r.csv", "--state", "s"), "--server"),
        (("node", "--server", "localhost:1", "--state", "s"), "--data"),
        (("node", "--server", "localhost:1", "--data", "r.csv"), "--state"),
        (("personalise",), "--state"),
        (("keys", "server"), "HOSTS"),
    ],
)
def test_options_out_of_range_or_left_out_are_named(hierfed, words, part):
    found = hierfed(*words)
    assert (found.code, found.out) == (2, "")
    assert part in found.err
    assert "Traceback" not in found.err


NODE = ("node", "--data", "r.csv", "--state", "state")
HERE = ("--server", "127.0.0.1:1")


@pytest.mark.parametrize("server", ["192.0.2.7:9092", "example.org:9092", "[2001:db8::1]:9092"])
def test_another_machine_is_reached_with_an_authority_or_knowingly_without(hierfed, server):
    found = hierfed(*NODE, "--server", server)
    assert_refused(found, f"--server {server}: another machine is reached with --ca", "--insecure")


@pytest.mark.parametrize("server", ["localhost", "9092", ":9092", "localhost:", "localhost:http", "127.0.0.1:70000"])
def test_a_node_needs_the_server_s_host_and_port(hierfed, server):
    assert_refused(hierfed(*NODE, "--server", server), f"--server {server}: expected HOST:PORT")


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (("--key", "nowhere.key"), 1, ("--key nowhere.key: cannot be read: No such file", "`hierfed keys new`")),
        (("--key", "a.key.pub"), 1, ("--key a.key.pub: no private key of a node",)),
        (("--catalogue", "nowhere.parquet"), 2, ("nowhere.parquet",)),
        (("--catalogue", "r.csv"), 2, ("item_id",)),
        (("--test", "nowhere.csv"), 2, ("nowhere.csv",)),
        (("--column", "user"), 2, ("expected key=value",)),
        (("--column", "user=who"), 2, ("no column 'who'",)),
        (("--name", "a/b"), 2, ("--name",)),
        (("--ca", "nowhere.pem"), 1, ("--ca nowhere.pem",)),
        (("--ca", "junk"), 1, ("--ca junk",)),
    ],
)
def test_a_node_s_files_and_columns_are_named(hierfed, options, code, parts):
    found = hierfed(*NODE, *HERE, *options)
    assert_refused(found, *parts, code=code)


@pytest.mark.parametrize("data", ["nowhere.csv", "junk", "tls"])
def test_a_node_s_data_that_are_none_are_named(hierfed, data):
    assert_refused(hierfed("node", "--state", "state", *HERE, "--data", data), data)


def test_a_node_s_state_is_one_process_s_and_one_name_s(hierfed, tmp_path):
    state = NodeState(tmp_path / "state")
    state.begin("north", Origin("r.csv"))
    assert_refused(hierfed(*NODE, *HERE), "--state state: another process is using it", code=1)
    assert_refused(hierfed("personalise", "--state", "state"), "another process is using it", code=1)
    state.close()
    assert_refused(hierfed(*NODE, *HERE, "--name", "south"), "belongs to node 'north', not 'south'", code=1)


@pytest.mark.parametrize("state", ["nowhere", "nobody"])
def test_personalise_says_where_no_node_has_been_and_makes_no_folder(hierfed, tmp_path, state):
    (tmp_path / "nobody").mkdir(mode=0o755)
    assert_refused(hierfed("personalise", "--state", state), f"--state {state}: no node has been here", code=1)
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "nobody").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "nobody").stat().st_mode) == 0o755


def test_personalise_says_where_no_federation_has_finished(hierfed, tmp_path):
    state = NodeState(tmp_path / "state")
    state.begin("north", Origin("r.csv"))
    state.close()
    found = hierfed("personalise", "--state", "state")
    assert_refused(found, "--state state: no federation has finished here yet", code=1)


def test_recommend_takes_a_run_or_a_node_s_state(hierfed):
    for words in ((), ("runs/x", "--state", "state")):
        found = hierfed("recommend", *words, "--user", "1")
        assert_refused(found, "recommend from a run's folder, or on a node with --state DIR")


def test_recommend_says_where_there_is_nothing_to_recommend_from(hierfed):
    assert_refused(
        hierfed("recommend", "--state", "nowhere", "--user", "1"),
        "--state nowhere: no such folder; `hierfed node",
        code=1,
    )


def test_keys_are_made_once(hierfed, tmp_path):
    made = hierfed("keys", "new", "b.key")
    assert (made.code, made.err) == (0, "")
    assert "b.key.pub" in made.out
    assert stat.S_IMODE((tmp_path / "b.key").stat().st_mode) == 0o600
    content = (tmp_path / "b.key").read_bytes()
    assert_refused(hierfed("keys", "new", "b.key"), "b.key: is there already", code=1)
    assert (tmp_path / "b.key").read_bytes() == content
    assert_refused(hierfed("keys", "new", "nowhere/b.key"), "nowhere", code=1)


def test_certificates_are_made_once(hierfed, tmp_path):
    made = hierfed("keys", "server", "example.org", "10.0.0.1", "--out", "new")
    assert (made.code, made.err) == (0, "")
    for name in ("server.pem", "server.key", "ca.pem"):
        assert f"new/{name}" in made.out
        assert (tmp_path / "new" / name).is_file()
    assert_refused(hierfed("keys", "server", "example.org", "--out", "new"), "is there already", code=1)
    assert_refused(hierfed("keys", "server", "a b", "--out", "other"), "'a b': no name or address", code=1)


def test_a_catalogue_is_written_for_the_server_and_its_nodes(hierfed, tmp_path):
    assert_refused(hierfed("data", "r.csv", "--catalogue", "items.csv"), "name it items.parquet")
    made = hierfed("data", "r.csv", "--catalogue", "items.parquet")
    assert made.code == 0, made.err
    assert len(read_catalogue(tmp_path / "items.parquet")) == 5


def test_without_flower_the_commands_say_what_to_install(hierfed, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "flwr" else found(name, *rest))
    for words in (SERVER, (*NODE, *HERE), ("federation",), ("keys", "new", "c.key"), ("keys", "server", "a")):
        assert_refused(hierfed(*words), "pip install 'hierfed[flower]'", code=1)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_this_machine_is_told_from_others(host, here):
    assert is_this_machine(host) is here


def test_a_quorum_that_no_round_could_have_is_refused(hierfed):
    found = hierfed(*SERVER, "--nodes", "2", "--quorum", "3")
    assert_refused(found, "--quorum 3 is more than --nodes 2")


def test_a_node_forgets_users_by_its_state(hierfed):
    where = "forget users of a run's folder, or on a node with --state DIR"
    assert_refused(hierfed("forget", "--user", "1"), where)
    assert_refused(hierfed("forget", "runs/x", "--state", "s", "--user", "1"), where)
    assert_refused(hierfed("forget", "--state", "s", "--user", "1"), "--state s: no node has been here", code=1)
