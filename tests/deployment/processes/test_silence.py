"""Real nodes that fall silent (SIGSTOP) and come back, and strangers who meanwhile join and call everything."""

import json
import signal
import ssl
import typing
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.keys import new_certificates, new_key, read_key, read_public_key
from hierfed.deployment.signing import fingerprint
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.engines.stages import after_earlier_stages
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings
from tests.attacks.calls import calls
from tests.deployment.processes.conftest import processes
from tests.deployment.processes.federations import SCALE, digest_of, free_port, join, last_line, read_until

pytestmark = pytest.mark.slow

ROUNDS = 6
SETTINGS = {"rounds": ROUNDS, "hidden": [6, 4], "local_epochs": 1}

# A server that waits two seconds for the others, in place of half a minute and more, once it has a quorum and a node is
# silent.
IMPATIENT = """
from pathlib import Path
from hierfed.cli import main
from hierfed.engines.flower.patience import Patience

usual = Patience.after
Patience.after = lambda patience, taken: 2.0 if Path("silent").exists() else usual(patience, taken)
main()
"""
# A node that stops as it is asked for a round, once.
STOPS = """
import os, signal
from pathlib import Path
from hierfed.cli import main
from hierfed.deployment.node import NodeSide

answer, stopped = NodeSide.answer, []


def answer_or_stop(node, request):
    if request.kind == "round" and request.facts["stage"] == "rating" and request.facts["round"] == {} and not stopped:
        stopped.append(True)
        Path("silent").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return answer(node, request)


NodeSide.answer = answer_or_stop
main()
"""
HEALTH = ("GET /health", "HEAD /health")
MISSED, NOT_WAITED_FOR = "has not answered within", "is not waited for"


@dataclass(frozen=True)
class AsItWas:
    """Participation as the nodes took part in a federation. places_of: by round."""

    places_of: dict[int, list[int]] = field(default_factory=dict)

    def places(self, round_number: int, nodes: int) -> np.ndarray:
        return np.array(self.places_of[round_number])


def network_digest(tables, participation) -> str:
    """Of the same nodes in one process. Nothing that a node of a network keeps changes what it sends."""
    settings, catalogue = load_settings("network", SETTINGS), read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(tables / f"{number}.parquet")), catalogue) for number in (1, 2, 3)]
    nodes = [Node(place, str(place + 1), each.train, each.test) for place, each in enumerate(own)]
    with one_torch_thread():
        method = prepare(after_earlier_stages(Case(settings, catalogue, SCALE), nodes)).method
        return run_rounds(method, nodes, ROUNDS, how=Round(participation=participation)).shared.digest()


def statuses(address: str, verify: ssl.SSLContext | bool) -> dict[str, int]:
    """What a stranger without a key is answered to each call."""
    with httpx.Client(base_url=f"https://{address}", verify=verify) as client:
        return {f"{method} {path}": client.request(method, path).status_code for method, path in calls()}


def answered_to_a_key(address, authority, key) -> list[str]:
    """The calls of a node that are answered to a key that the server does not know."""
    names = [name for name in vars(FleetHttpClient) if name[0].isupper()]
    signs = NodeAuthHttpInterceptor(key, key.public_key())
    version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    answered = []
    with FleetHttpClient.from_server_address(address, False, str(authority), [version, signs]) as client:
        for name in names:
            call = getattr(client, name)
            try:
                call(typing.get_type_hints(call)["request"]())
            except httpx.HTTPStatusError as error:
                assert 400 <= error.response.status_code < 500, (name, error.response.status_code)
            else:
                answered.append(name)
    assert len(names) > 10
    return answered


@dataclass(frozen=True)
class Over:
    """A federation that is over, of whose three nodes two fell silent and came back, and where strangers came by.

    lines: what the server said. codes: how server and nodes ended. result: the server's.
    statuses: what a stranger's calls were answered, with and without a look at the certificate.
    plain: what came of a call without TLS. answered: the calls of a node that a strange key was answered.
    unknown: the fingerprint of a key that joined and was not allowed; told: what who was not let in read last.
    """

    lines: list[str]
    codes: list[int]
    result: dict[str, typing.Any]
    statuses: list[dict[str, int]]
    plain: httpx.HTTPError | None
    answered: list[str]
    unknown: str
    told: dict[str, str]


@pytest.fixture(scope="module")
def over(parent, tables, tmp_path_factory) -> typing.Iterator[Over]:
    """Node 3 is silent from round 2 on, node 2 from round 5 on: that one needs node 3 for its quorum."""
    folder = tmp_path_factory.mktemp("over")
    with processes(parent, folder) as start:
        yield run(start, tables, folder)


def run(start, tables, folder) -> Over:
    certificates, port = new_certificates(folder / "keys", ["127.0.0.1"]), free_port()
    keys = [word for number in (1, 2, 3) for word in ("--allow-key", new_key(folder / f"{number}.key"))]
    tls = ["--tls-cert", certificates.certificate, "--tls-key", certificates.key, "--ca", certificates.ca]
    options = ["--listen", f"127.0.0.1:{port}", "--nodes", 3, "--quorum", 2, "--catalogue", tables / "items.csv"]
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    server = start("server", "network", *options, *tls, *keys, *sets, "--name", "trained", code=IMPATIENT)

    def node(number, **how):
        own = ("--ca", certificates.ca, "--key", folder / f"{number}.key")
        return join(start, tables, port, number, *own, **how)

    nodes = {1: node(1), 2: node(2, code=STOPS.format(5)), 3: node(3, code=STOPS.format(2))}
    lines = read_until(server, "rating, round 4:")
    # Round 5 waits for a quorum.
    address = f"127.0.0.1:{port}"
    answers = [statuses(address, verify) for verify in (ssl.create_default_context(cafile=certificates.ca), False)]
    plain = None
    try:
        httpx.get(f"http://{address}/health")
    except httpx.HTTPError as error:
        plain = error
    unknown, others = new_key(folder / "unknown.key"), new_certificates(folder / "others", ["127.0.0.1"])
    answered = answered_to_a_key(address, certificates.ca, read_key(folder / "unknown.key"))

    def stranger(name, *more):
        own = ("--state", f"stranger-{name}", "--name", f"stranger {name}", "--patience", 3)
        return join(start, tables, port, 1, *own, *more)

    strangers = {
        "unknown key": stranger("a", "--ca", certificates.ca, "--key", folder / "unknown.key"),
        "no key": stranger("b", "--ca", certificates.ca),
        "no TLS": stranger("c"),
        "another authority": stranger("d", "--ca", others.ca, "--key", folder / "1.key"),
    }
    told = {name: last_line(each) for name, each in strangers.items()}
    assert server.poll() is None
    nodes[3].send_signal(signal.SIGCONT)
    lines += read_until(server, "rating, round 5:")
    nodes[2].send_signal(signal.SIGCONT)
    lines += read_until(server, "digest")
    codes = [process.wait() for process in (server, *nodes.values())]
    result = json.loads(next(folder.rglob("trained/result.json")).read_text())
    return Over(lines, codes, result, answers, plain, answered, fingerprint(read_public_key(unknown)), told)


def test_silent_nodes_cost_one_wait_each_and_come_back(over, tables):
    assert over.codes == [0] * 4
    rounds = {each["round"]: each for each in over.result["federation"]["rounds"] if each["stage"] == "rating"}
    of_three = {
        number: [each["reason"] for each in rounds[number]["refused"] if each["node"] == "3"] for number in range(1, 5)
    }
    assert rounds[1]["contributors"] == ["1", "2", "3"]
    assert [rounds[number]["contributors"] for number in (2, 3, 4)] == [["1", "2"]] * 3
    assert rounds[5]["contributors"] == ["1", "3"]
    assert max(rounds) == ROUNDS
    # It is waited for in one round, and counted in each.
    assert [any(MISSED in reason for reason in of_three[number]) for number in (2, 3, 4)] == [True, False, False]
    assert all(NOT_WAITED_FOR in reason for number in (3, 4) for reason in of_three[number])
    assert all(of_three[number] for number in (2, 3, 4))
    assert sum("node 3 has not answered" in line for line in over.lines) == 1
    took_part = {number: [int(name) - 1 for name in each["contributors"]] for number, each in rounds.items()}
    assert digest_of(over.lines) == network_digest(tables, AsItWas(took_part))


def test_strangers_may_call_nothing(over):
    for told in over.statuses:
        assert len(told) > 70
        assert {call: code for call, code in told.items() if not 400 <= code < 500} == dict.fromkeys(HEALTH, 200)
    assert over.plain is not None
    assert over.answered == []


def test_strangers_who_join_are_refused_in_one_line_each(over):
    assert "lets no node in with this key" in over.told["unknown key"]
    assert "hierfed keys new" in over.told["no key"]
    assert "speaks TLS: give --ca" in over.told["no TLS"]
    assert "not who it should be: unable to get local issuer certificate" in over.told["another authority"]
    refused = f"WARNING a node is refused: from 127.0.0.1, with the key {over.unknown}"
    assert any(refused in line for line in over.lines), over.lines
