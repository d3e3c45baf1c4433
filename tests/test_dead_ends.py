"""What used to end in a traceback, or in a false reason, ends in one line that says what to do."""

from __future__ import annotations

import http.server
import importlib
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

import hierfed
from hierfed import cli
from hierfed.cli.output import print_json
from hierfed.errors import DataError, HierfedError, SettingsError
from hierfed.settings import load_settings, parse_value

SMALL = {"rounds": 1, "nodes": 2, "personal_nodes": 2, "protocol": "warm", "hidden": [4], "local_epochs": 1}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"u{u},i{i},{1 + (u * i + i) % 5}" for u in range(20) for i in range(9) if (u + i) % 3]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    return tmp_path / "r.csv"


class Two(torch.nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.first, self.last = torch.nn.Linear(features, 1), torch.nn.Linear(features, 1)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(inputs), self.last(inputs)


MODULES = {
    "a ReLU alone": (lambda features: torch.nn.ReLU(), "has no parameters, so there is nothing to learn"),
    "two outputs": (lambda features: torch.nn.Linear(features, 2), "gives 2 numbers for an item, expected one"),
    "an instance": (torch.nn.Linear(2, 1), "expected a function from the number of features.* found Linear"),
    "a number": (3, "expected a function from the number of features.* found int"),
    "no module": (lambda features: features, "the function gives int, expected a torch.nn.Module"),
    "wrong inputs": (lambda features: torch.nn.Linear(features + 1, 1), "cannot be trained on 2 features: mat1"),
    "no linear end": (
        lambda features: torch.nn.Sequential(torch.nn.Linear(features, 1), torch.nn.PReLU()),
        "must end in a torch.nn.Linear with a bias",
    ),
    "no bias": (lambda features: torch.nn.Linear(features, 1, bias=False), "must end in a torch.nn.Linear with a bias"),
    "batch statistics": (
        lambda features: torch.nn.Sequential(torch.nn.BatchNorm1d(features), torch.nn.Linear(features, 1)),
        "modules with buffers",
    ),
    "two heads": (Two, "cannot be trained on 2 features"),
}


@pytest.mark.parametrize("make, told", MODULES.values(), ids=MODULES.keys())
def test_own_modules_that_cannot_be_trained(table, make, told):
    with pytest.raises(SettingsError, match=told) as caught:
        hierfed.run("network", data=table, module=make, **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("64,32", [64, 32]),
        ("64, 32", [64, 32]),
        ("0.5,5", [0.5, 5]),
        ("-10,10", [-10, 10]),
        ("1e1,2", "1e1,2"),
        ("[64,32]", [64, 32]),
        ("64", 64),
        ("a,b", "a,b"),
        ("SELECT 1, 2", "SELECT 1, 2"),
        ("postgresql://h:1,2", "postgresql://h:1,2"),
    ],
)
def test_numbers_with_commas_are_a_list(text, value):
    assert parse_value(text) == value


def test_a_setting_at_the_top_of_a_file_is_told_where_it_belongs(tmp_path):
    (tmp_path / "s.toml").write_text("rounds = 3\n")
    with pytest.raises(SettingsError, match=r"setting 'rounds' is in section \[training\]: move it there"):
        load_settings(str(tmp_path / "s.toml"))


@pytest.mark.parametrize("preset", ["hierarchical", "paper", "item_biases"])
def test_the_hint_names_the_preset_at_hand(preset):
    with pytest.raises(SettingsError, match=f"--settings {preset}` lists them all"):
        load_settings(preset, {"zzz": 1})


@pytest.mark.parametrize("option, setting", [("--rounds", "rounds"), ("--local-epochs", "local_epochs")])
def test_a_setting_as_an_option_is_told_how_to_be_set(monkeypatch, capsys, option, setting):
    monkeypatch.setattr(sys, "argv", ["hierfed", "run", option, "3"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert f"{setting} is a setting: --set {setting}=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gone.sqlite", "gone.db", "gone.sqlite3"])
def test_a_database_that_is_not_there(tmp_path, name):
    from hierfed.data.reading.sources import load, read_ratings

    for read in (load, read_ratings):
        with pytest.raises(DataError, match=r"gone.*: file not found"):
            read(str(tmp_path / name), query="SELECT 1")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_output_to_any_encoding(tmp_path, encoding):
    content = "user,item,rating\n" + "".join(f"u{n},\u65e5\u672c {n},{n % 5 + 1}\n" for n in range(5))
    (tmp_path / "\u65e5.csv").write_text(content, encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "200"}
    words = [sys.executable, "-m", "hierfed", "data", str(tmp_path / "\u65e5.csv")]
    found = subprocess.run(words, capture_output=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    assert ("\u65e5" if encoding == "utf-8" else "\\u65e5").encode(encoding) in found.stdout


def test_json_is_json_in_every_encoding(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    text = '{"title": "Am\u00e9lie \u65e5 \U0001f600", "rmse": 0.1234567890123456}'
    print_json(text)
    stream.seek(0)
    assert json.loads(stream.read()) == json.loads(text)


def test_this_machine_is_reached_past_a_proxy(monkeypatch):
    from hierfed.engines.flower.surroundings import surroundings

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "example.org")
        address = f"http://127.0.0.1:{server.server_port}/health"
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        for name, value in surroundings(Path("home")).items():
            monkeypatch.setenv(name, value)
        assert httpx.get(address).status_code == 204
        assert os.environ["no_proxy"].split(",") == ["example.org", "localhost", "127.0.0.1", "::1"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_the_locks_of_unix_all_but_servers_and_nodes_works(monkeypatch, tmp_path):
    from hierfed import atomic

    monkeypatch.setitem(sys.modules, "fcntl", None)
    again = importlib.reload(atomic)
    again.write_atomically(tmp_path / "file", b"whole")
    with pytest.raises(HierfedError, match="need the file locks of Linux or macOS"):
        again.held(tmp_path / "lock")


def test_fcntl_is_behind_one_door():
    package = Path(hierfed.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "import fcntl" in path.read_text()] == ["atomic.py"]


def hosted(tmp_path, monkeypatch, nodes, keys, fails=None):
    """What a server tells until its training would begin. fails: what Flower's server ends with as it starts."""
    from hierfed.data.reading.sources import load
    from hierfed.deployment import hosting
    from hierfed.deployment.admission import ServerObserver
    from hierfed.deployment.keys import new_key
    from hierfed.engines.flower.patience import Patience

    told: list[str] = []

    class Telling(ServerObserver):
        def tell(self, event: str) -> None:
            told.append(event)

    @contextmanager
    def started(*_: object):
        if fails is not None:
            raise fails
        yield None

    class BeginError(Exception):
        pass

    def begin(*_: object) -> None:
        raise BeginError

    monkeypatch.setattr(hosting, "superlink", started)
    monkeypatch.setattr(hosting, "conduct", begin)
    public = tuple(new_key(tmp_path / f"{number}.key") for number in range(keys))
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,1\n1,2,5\n")
    catalogue = load(str(tmp_path / "r.csv")).catalogue
    where = hosting.Hosting("127.0.0.1", 9, None, public)
    with pytest.raises((BeginError, HierfedError)):
        hosting.host(load_settings("item_biases"), catalogue, tmp_path / "run", where, nodes, 1, Patience(), Telling())
    return told


def test_fewer_keys_than_nodes_are_told(tmp_path, monkeypatch):
    told = hosted(tmp_path, monkeypatch, nodes=2, keys=1)
    assert told[0] == "listens at 127.0.0.1:9, without TLS; 2 items in the catalogue"
    assert told[1].startswith("warning: 1 key is allowed, and 2 nodes must be there to begin: add an --allow-key")


@pytest.mark.parametrize("keys", [0, 2, 3])
def test_keys_for_all_nodes_are_not_spoken_of(tmp_path, monkeypatch, keys):
    assert len(hosted(tmp_path, monkeypatch, nodes=2, keys=keys)) == 1


def test_a_server_that_cannot_listen_does_not_say_that_it_does(tmp_path, monkeypatch):
    assert hosted(tmp_path, monkeypatch, 2, 2, HierfedError("cannot listen: address in use")) == []


@pytest.mark.parametrize(
    "rule, told",
    [(3, "expected a name or a function of contributions \\(found int"), (lambda pairs: len(list(pairs)), "gives int")],
    ids=["a number", "gives a number"],
)
def test_own_rules_that_make_no_total(table, rule, told):
    with pytest.raises(SettingsError, match=f"rule: {told}"):
        hierfed.run("network", data=table, rule=rule, **SMALL)


def test_an_own_method_without_prepare_is_told_so(table):
    from hierfed.methods.kind import MethodKind

    class Empty(MethodKind):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty lacks prepare\(case\)"):
        hierfed.run("item_biases", data=table, method=Empty(), nodes=2, personal_nodes=2)
