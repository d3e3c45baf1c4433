"""What a server and a node say of themselves: in their folder, to `hierfed status`, and to monitors."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from hierfed import cli
from hierfed.atomic import held
from hierfed.cli.status import status_lines
from hierfed.deployment.admission import ServerObserver
from hierfed.deployment.health import answer, health_of
from hierfed.deployment.status import FILE, MOST_REFUSALS, SERVER_LOCK, Status, StatusFile, read_status
from hierfed.deployment.watched import WatchedNode, WatchedServer
from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower.admission import Change
from hierfed.errors import HierfedError
from hierfed.results import DeployedRound, RefusedAnswer


class Told(ServerObserver):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def tell(self, event: str) -> None:
        self.lines.append(event)

    def warn(self, event: str) -> None:
        self.warnings.append(event)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_round(number: int, refused: int = 0, abandoned: bool = False) -> DeployedRound:
    reasons = [RefusedAnswer(node="shop", reason="holds NaN")] * refused
    return DeployedRound(
        stage="rating",
        round=number,
        contributors=["shop"],
        refused=reasons,
        abandoned=abandoned,
        train_loss=[],
        bytes_up=1,
        bytes_down=1,
        seconds=1.0,
    )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, told: Told, clock: Clock) -> WatchedServer:
    return WatchedServer(tmp_path, 3, 2, told, clock=clock)


def join(server: WatchedServer, *names: str) -> None:
    for name in names:
        server.on_change(Change("joined", name))


def test_a_missing_quorum_is_told_once_and_so_is_its_return(server, told):
    join(server, "shop", "library", "archive")
    assert server.status.problem == ""
    server.on_change(Change("gone", "shop"))
    server.on_change(Change("gone", "library"))
    assert server.status.problem == "", "nothing is missing before the training has begun"
    server.on_plan(10)
    missing = "the quorum is missing: 1 of the 2 nodes that a round needs are there"
    server.on_change(Change("gone", "archive"))
    assert told.warnings == ["node shop is gone", "node library is gone", missing, "node archive is gone"]
    assert answer("/healthz", server.status)[0] == 503
    join(server, "shop", "library")
    assert told.lines[-1] == "the quorum is there again: 2 nodes"
    assert answer("/healthz", server.status)[0] == 200


def test_a_servers_folder_says_what_it_is_doing(server, told, clock, tmp_path):
    join(server, "shop", "library")
    server.on_plan(4)
    clock.now += 100
    server.on_contact("shop")
    server.on_change(Change("refused", "", "another version"))
    server.on_round(a_round(1, refused=1))
    server.on_round(a_round(2, abandoned=True))
    with held(tmp_path / SERVER_LOCK):
        found = read_status(tmp_path)
    assert (found.phase, found.stage, found.round, found.done, found.abandoned) == ("training", "rating", 2, 1, 1)
    assert {name: member.last_contact for name, member in found.members.items()} == {"shop": 1100.0, "library": 1000.0}
    assert [(each.node, each.round, each.reason) for each in found.refused] == [
        ("", "", "another version"),
        ("shop", "rating 1", "holds NaN"),
    ]
    lines = "\n".join(status_lines(found, now=1220.0))
    for part in (
        "trains; 1 of 4 rounds",
        "last round: rating 2, 1 rounds abandoned",
        "node shop: there, last contact 2 minutes ago",
        "node library: there, last contact 3 minutes ago",
        "refused: 2",
        "a node: another version",
        "node shop, rating 1: holds NaN",
    ):
        assert part in lines
    assert read_status(tmp_path).phase == "stopped", "no process holds the folder any more"


def test_of_many_refusals_the_last_ones_are_kept_and_all_are_counted(server):
    for number in range(MOST_REFUSALS + 5):
        server.on_change(Change("refused", "", f"reason {number}"))
    assert server.status.refusals == MOST_REFUSALS + 5
    assert [each.reason for each in server.status.refused] == [f"reason {n}" for n in range(5, MOST_REFUSALS + 5)]


def test_a_key_that_was_not_allowed_is_told_at_the_server(tmp_path, told):
    waiting = [["from 10.0.0.7, with the key SHA256:abc, which no --allow-key names"], []]
    server = WatchedServer(tmp_path, 3, 2, told, lambda: waiting.pop(0) if waiting else [])
    server.check()
    server.check()
    assert told.warnings == ["a node is refused: from 10.0.0.7, with the key SHA256:abc, which no --allow-key names"]
    assert server.status.refusals == 1


def test_a_nodes_state_says_when_it_reached_its_server(tmp_path, clock):
    node = WatchedNode(tmp_path, "shop", clock)
    node.answered(Request("hello"), Reply())
    node.answered(Request("round", {"stage": "rating", "round": 3}), Reply())
    clock.now += 60
    node.unreached("the server at x:1 cannot be reached: refused")
    assert answer("/healthz", node.status)[0] == 503
    lines = status_lines(node.status, now=1120.0)
    assert lines == [
        "node 'shop': takes part",
        "problem: the server at x:1 cannot be reached: refused",
        "last round: rating 3",
        "last contact with the server: 2 minutes ago",
    ]
    node.contact()
    assert (node.status.problem, node.status.last_contact) == ("", 1060.0)
    node.answered(Request("goodbye"), Reply())
    assert read_status(tmp_path).phase == "finished"


def test_a_node_that_does_not_take_part_says_so(tmp_path):
    node = WatchedNode(tmp_path, "shop")
    node.answered(Request("hello"), Reply({"refusal": "another catalogue"}))
    node.contact()
    assert node.status.problem == "does not take part: another catalogue"


def test_contact_alone_is_written_now_and_then(tmp_path, clock):
    file = StatusFile(tmp_path, Status(kind="node", name="shop"), clock)
    clock.now += 1
    file.touch(last_contact=clock.now)
    assert read_status(tmp_path).last_contact == 0.0
    clock.now += 10
    file.touch(last_contact=clock.now)
    assert read_status(tmp_path).last_contact == 1011.0


def test_prometheus_reads_the_measurements(server):
    from prometheus_client.parser import text_string_to_metric_families

    join(server, "shop", "library")
    server.on_plan(4)
    server.on_change(Change("gone", "library"))
    server.on_round(a_round(3, refused=2, abandoned=True))
    text = answer("/metrics", server.status)[2].decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found[("hierfed_round", "rating")] == 3
    assert found[("hierfed_quorum",)] == 2
    assert found[("hierfed_nodes_present",)] == 1
    assert found[("hierfed_problem",)] == 1
    assert found[("hierfed_refused_total",)] == 2
    assert found[("hierfed_rounds_abandoned_total",)] == 1
    assert (found[("hierfed_node_present", "shop")], found[("hierfed_node_present", "library")]) == (1, 0)


def test_monitors_are_answered_over_http_while_the_block_runs(server, told):
    with health_of(("127.0.0.1", 0), lambda: server.status, told.tell) as where:
        assert where is not None

        def get(path: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(*where, timeout=5)
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.headers["Server"] == "hierfed"
            return response.status, response.read()

        assert get("/healthz") == (200, b'{"status": "ok", "phase": "waiting", "stage": "", "round": 0}')
        assert get("/metrics")[0] == 200
        assert get("/elsewhere")[0] == 404
        with (
            pytest.raises(HierfedError, match="choose another --health"),
            health_of(where, lambda: server.status, told.tell),
        ):
            pass
    with pytest.raises(ConnectionRefusedError):
        get("/healthz")
    assert not any("warning" in line for line in told.lines)


def test_other_machines_that_may_read_it_are_told_of(server, told):
    with health_of(("0.0.0.0", 0), lambda: server.status, told.tell):
        pass
    assert any(line.startswith("warning: --health is open to other machines") for line in told.lines)


def test_the_command_speaks_json_and_knows_what_is_no_folder_of_a_federation(server, tmp_path, capsys, monkeypatch):
    join(server, "shop")
    assert run(monkeypatch, "status", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["members"]["shop"]["present"] is True
    assert run(monkeypatch, "status", str(tmp_path / "no")) == 1
    assert f"no {FILE} is there" in capsys.readouterr().err
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("shop", "shed"))
    assert run(monkeypatch, "status", str(tmp_path)) == 1
    assert "delete it: it is written anew" in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["hierfed", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)
