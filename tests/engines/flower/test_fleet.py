"""What a node says of a server that it cannot be with, from real connections; and how it serves one that it can."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeResponse,
    PullMessagesResponse,
    PushMessagesResponse,
    RegisterNodeFleetResponse,
    UnregisterNodeFleetResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, PullObjectResponse, PushObjectResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from hierfed.engines.exchange import Reply, Request
from hierfed.engines.flower import fleet
from hierfed.engines.flower.fleet import ServerAddress, Traffic, client_app, serve
from hierfed.engines.flower.records import message_type, read_reply, request_records
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution

LOCALHOST = "127.0.0.1"


class Told(Exception):
    """A node has said why it tries again."""


class Authority:
    """Signs certificates for this machine."""

    def __init__(self, folder: Path, name: str):
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._signed(self._name, self._key, 10, None).public_bytes(Encoding.PEM))

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, host: str | None
    ) -> x509.Certificate:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(end - datetime.timedelta(100)).not_valid_after(end)
        builder = builder.add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        if host is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, days: int = 10, host: str = LOCALHOST) -> ssl.SSLContext:
        """A server's, whose certificate is for `host` and ends after so many days."""
        key, stem = ec.generate_private_key(ec.SECP256R1()), f"{days}-{host}"
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        certificate, private = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        certificate.write_bytes(self._signed(name, key, days, host).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@contextmanager
def listening(response: bytes, tls: ssl.SSLContext | None) -> Iterator[str]:
    """The address of a server that answers every request like this."""
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []
    up = threading.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(response)
        writer.close()

    async def run() -> None:
        server, stop = await asyncio.start_server(answer, LOCALHOST, 0, ssl=tls), asyncio.Event()
        started.append((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        up.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    up.wait(20)
    ((loop, stop, port),) = started
    try:
        yield f"{LOCALHOST}:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


def answer_of(status: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def complaint(address: str, ca: Path | None) -> tuple[bool, str]:
    """Whether the node gives up at once, and what it says."""

    def tell(event: str) -> None:
        raise Told(event)

    try:
        serve(ServerAddress(address, ca, patience=1e9), None, client_app(lambda request: Reply()), lambda: False, tell)
    except HierfedError as error:
        return True, str(error)
    except Told as told:
        return False, str(told)
    raise AssertionError("unreachable")


def test_a_server_that_is_not_there():
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        address = f"{LOCALHOST}:{probe.getsockname()[1]}"
    final, reason = complaint(address, None)
    assert not final
    assert reason.startswith(f"the server at {address} cannot be reached: ")
    assert "refused" in reason
    assert reason.endswith("; trying again for up to 1e+09 s")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectTimeout("timed out"), "timed out"),
        (httpx.ReadTimeout("The read operation timed out"), "The read operation timed out"),
        (httpx.PoolTimeout(""), "PoolTimeout"),
    ],
)
def test_a_server_that_is_silent(error, words):
    found = fleet._explain(ServerAddress("here:1"), error, met=False)
    assert found == (False, f"the server at here:1 cannot be reached: {words}")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda own, other: own.context(days=-1), "certificate has expired"),
        (lambda own, other: other.context(), "unable to get local issuer certificate"),
        (lambda own, other: own.context(host="127.0.0.2"), "not valid for '127.0.0.1'"),
    ],
    ids=["expired", "unknown authority", "another address"],
)
def test_a_server_that_is_not_who_it_should_be(make, reason, authority, stranger):
    with listening(b"", make(authority, stranger)) as address:
        final, told = complaint(address, authority.file)
    assert final
    assert told.startswith(f"the server at {address} is not who it should be: ")
    assert reason in told
    assert told.endswith(f"; --ca {authority.file} must have signed it")
    assert "_ssl" not in told
    assert "\n" not in told


def test_a_server_without_tls(authority):
    with listening(answer_of("400 Bad Request"), None) as address:
        final, told = complaint(address, authority.file)
    assert final
    assert (
        told == f"the server at {address} does not speak TLS: it was started with --insecure, and so must the node be"
    )


@pytest.mark.parametrize("words", ["[SSL: WRONG_VERSION_NUMBER] wrong version", "[SSL] record layer failure"])
def test_a_server_without_tls_in_the_words_of_each_openssl(words):
    final, told = fleet._explain(ServerAddress("here:1", Path("ca.pem")), httpx.ConnectError(words), met=False)
    assert final
    assert told.startswith("the server at here:1 does not speak TLS")


@pytest.mark.parametrize("polite", [False, True])
def test_a_server_with_tls_where_the_node_has_none(polite, authority):
    """One hangs up, as a proxy does before its server is up; another, behind a proxy, says 400."""
    with listening(answer_of("400 Bad Request"), None if polite else authority.context()) as address:
        final, told = complaint(address, None)
    assert final is polite
    assert told.startswith(f"the server at {address} speaks TLS: give --ca with the authority that signed it")


@pytest.mark.parametrize(
    "error", [httpx.RemoteProtocolError("closed"), httpx.ReadError("reset"), httpx.WriteError("broken")]
)
def test_a_server_with_tls_may_close_or_reset_the_connection(error):
    final, told = fleet._explain(ServerAddress("here:1"), error, met=False)
    assert not final
    assert told.startswith("the server at here:1 speaks TLS: give --ca with the authority that signed it; or it")
    _, told = fleet._explain(ServerAddress("here:1", Path("ca.pem")), error, met=False)
    assert "cannot be reached" in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.RemoteProtocolError("Server disconnected"), "cannot be reached: Server disconnected"),
        (httpx.ReadError("[Errno 104] Connection reset by peer"), "cannot be reached: Connection reset by peer"),
        (httpx.HTTPStatusError("bad", request=None, response=httpx.Response(400, text="no")), "answers 400: no"),
    ],
)
def test_a_server_that_has_answered_before_speaks_as_the_node_does(error, words):
    assert fleet._explain(ServerAddress("here:1"), error, met=True) == (False, f"the server at here:1 {words}")


@pytest.mark.parametrize(
    ("status", "body", "final", "reason"),
    [
        ("401 Unauthorized", '{"code":2001,"message":"x"}', True, "lets in nodes with known keys alone"),
        ("401 Unauthorized", "who are you?", False, "answers 401: who are you?; trying"),
        ("401 Unauthorized", "", False, "answers 401: Client error '401 Unauthorized'"),
        ("412 Precondition Failed", '{"code":2004,"message":"x"}', False, "in with this key: it is unknown there"),
        ("400 Bad Request", "no", False, "answers 400: no; trying"),
        ("503 Service Unavailable", "full", False, "answers 503: full; trying"),
    ],
)
def test_a_server_that_answers_with_a_refusal(status, body, final, reason, authority):
    with listening(answer_of(status, body), authority.context()) as address:
        found, told = complaint(address, authority.file)
    assert found is final
    assert told.startswith(f"the server at {address} ")
    assert reason in told


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "foreign"])
def test_a_file_that_is_no_authority(content, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    final, told = complaint(f"{LOCALHOST}:9", path)
    assert final
    assert told.startswith(f"--ca {path}: cannot be used as a certificate authority: ")


class Superlink:
    """Flower's server for one node, in memory: it gives messages and keeps the replies."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[tuple[object, ...]] = []
        self.waiting: list[Message] = []
        self.replies: list[Message] = []
        self.failures: list[tuple[str, httpx.HTTPError]] = []
        self.down = self.up = 0
        self._contents: dict[str, bytes] = {}
        self._pushed: dict[str, bytes] = {}
        self._reply = ""

    def ask(self, request: Request) -> None:
        message = Message(request_records(request), 77, message_type(request.kind))
        message.metadata.__dict__["_message_id"] = message.object_id
        contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
        self._contents |= contents
        self.down += sum(map(len, contents.values()))
        self.waiting.append(message)

    def connect(self, *arguments: object) -> Superlink:
        self.arguments.append(arguments)
        return self

    def __enter__(self) -> Superlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append("close")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failures and self.failures[0][0] == name:
            raise self.failures.pop(0)[1]

    def RegisterNode(self, request):
        self._called(f"register {request.public_key.hex()[:8]}")
        return RegisterNodeFleetResponse()

    def ActivateNode(self, request):
        self._called("activate")
        self.key = request.public_key
        return ActivateNodeResponse(node_id=77)

    def DeactivateNode(self, request):
        self._called(f"deactivate {request.node_id}")
        return DeactivateNodeResponse()

    def UnregisterNode(self, request):
        self._called(f"unregister {request.node_id}")
        return UnregisterNodeFleetResponse()

    def SendNodeHeartbeat(self, request):
        return SendNodeHeartbeatResponse()

    def PullMessages(self, request):
        assert request.node.node_id == 77
        self._called("pull")
        if not self.waiting:
            return PullMessagesResponse()
        message = self.waiting.pop(0)
        return PullMessagesResponse(
            messages_list=[message_to_proto(message)], message_object_trees=[get_object_tree(message)]
        )

    def PullObject(self, request):
        content = self._contents[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request):
        self._called("confirm")
        return ConfirmMessageReceivedResponse()

    def PushMessages(self, request):
        self._called("push")
        (envelope,), (tree,) = request.messages_list, request.message_object_trees
        self._reply = tree.object_id
        assert envelope.metadata.message_id == tree.object_id
        assert not message_from_proto(envelope).has_content() or not message_from_proto(envelope).content
        names = []
        trees = [tree]
        while trees:
            each = trees.pop()
            names.append(each.object_id)
            trees.extend(each.children)
        self._wanted = set(names)
        return PushMessagesResponse(objects_to_push=names, session_id="5")

    def PushObject(self, request):
        assert (request.node.node_id, request.session_id) == (77, "5")
        self._pushed[request.object_id] = request.object_content
        self.up += len(request.object_content)
        if self._wanted <= set(self._pushed):
            contents = {name: self._pushed[name] for name in self._wanted}
            self.replies.append(inflate_object_from_contents(self._reply, contents))
        return PushObjectResponse(stored=True)


@pytest.fixture
def superlink(monkeypatch: pytest.MonkeyPatch) -> Superlink:
    link = Superlink()
    monkeypatch.setattr(fleet.FleetHttpClient, "from_server_address", link.connect)
    return link


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The node's clock, which goes on by what it sleeps alone."""
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(fleet, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


class Replies:
    """A node that keeps what it hears, answers with sums, and is done after so many requests."""

    def __init__(self, until: int, work: Callable[[Request], None] = lambda request: None):
        self.heard: list[Request] = []
        self.told: list[str] = []
        self._until, self._work = until, work

    def answer(self, request: Request) -> Reply:
        self.heard.append(request)
        self._work(request)
        return Reply({"place": len(self.heard)}, Contribution({"sum": request.arrays["number"].double() + 1}))

    def serve(self, key: ec.EllipticCurvePrivateKey | None = None, patience: float = 30.0) -> Traffic:
        where = ServerAddress("here:1", patience=patience)
        return serve(where, key, client_app(self.answer), lambda: len(self.heard) >= self._until, self.told.append)


def numbered(kind: str, number: float) -> Request:
    return Request(kind, {"round": 2}, {"number": torch.full((3,), number)})


def test_requests_are_answered_one_after_the_other(superlink, clock):
    for number, kind in enumerate(fleet.KINDS):
        superlink.ask(numbered(kind, number))
    node = Replies(until=len(fleet.KINDS))
    node.serve()
    assert [(request.kind, request.facts) for request in node.heard] == [(kind, {"round": 2}) for kind in fleet.KINDS]
    found = [read_reply(reply) for reply in superlink.replies]
    count = len(fleet.KINDS)
    assert [reply.facts for reply in found] == [{"place": place} for place in range(1, count + 1)]
    assert [reply.contribution.arrays["sum"].tolist() for reply in found] == [[n + 1.0] * 3 for n in range(count)]
    assert superlink.calls.count("confirm") == count
    assert node.told == []


def test_a_reply_says_which_message_it_answers(superlink, clock):
    superlink.ask(numbered("round", 1))
    (asked,) = superlink.waiting
    Replies(until=1).serve()
    (reply,) = superlink.replies
    assert reply.metadata.reply_to_message_id == asked.metadata.message_id
    assert reply.metadata.src_node_id == 77
    assert reply.metadata.message_type == "query.round"


def test_traffic_is_that_of_the_contents(superlink, clock):
    superlink.ask(numbered("round", 1))
    superlink.ask(numbered("round", 2))
    traffic = Replies(until=2).serve()
    assert (traffic.received, traffic.sent) == (superlink.down, superlink.up)
    assert superlink.up > 2 * 24


def test_a_node_without_a_key_is_registered_and_forgotten_again(superlink, clock):
    superlink.ask(numbered("round", 1))
    Replies(until=1).serve()
    assert superlink.calls[0] == f"register {superlink.key.hex()[:8]}"
    assert superlink.calls[1] == "activate"
    assert superlink.calls[-3:] == ["deactivate 77", "unregister 77", "close"]


def test_a_node_with_a_key_is_known_by_it(superlink, clock):
    superlink.ask(numbered("round", 1))
    key = ec.generate_private_key(ec.SECP384R1())
    Replies(until=1).serve(key)
    assert superlink.calls[0] == "activate"
    assert superlink.key == public_key_to_bytes(key.public_key())
    assert superlink.calls[-2:] == ["deactivate 77", "close"]


def test_the_server_hears_the_kind_of_an_error_and_not_what_it_says(superlink, clock):
    def fail(_: Request) -> None:
        raise ValueError("user 4711 has rated nothing")

    superlink.ask(numbered("round", 1))
    with pytest.raises(ValueError, match="4711"):
        Replies(until=1, work=fail).serve()
    (reply,) = superlink.replies
    assert reply.has_error()
    assert reply.error.reason == "ValueError on the node, which says more"
    assert "4711" not in str(reply)
    assert superlink.calls[-3:] == ["deactivate 77", "unregister 77", "close"]


def test_a_server_that_goes_and_comes_back_is_met_again(superlink, clock):
    broken = httpx.ConnectError("Connection refused")
    superlink.failures = [("activate", broken), ("activate", broken), ("pull", broken), ("activate", broken)]
    superlink.ask(numbered("round", 1))
    node = Replies(until=1)
    node.serve()
    assert len(superlink.replies) == 1
    assert superlink.calls.count("activate") == 5
    # The same is said once.
    assert node.told == ["the server at here:1 cannot be reached: Connection refused; trying again for up to 30 s"]
    assert clock[0] == pytest.approx(100 + 4 * fleet.RETRY_SECONDS)


def test_another_reason_is_told_again(superlink, clock):
    superlink.failures = [("activate", httpx.ConnectError(words)) for words in ("one", "one", "two", "one")]
    superlink.ask(numbered("round", 1))
    node = Replies(until=1)
    node.serve()
    assert [event.split(": ")[1].split(";")[0] for event in node.told] == ["one", "two", "one"]


def test_a_server_that_does_not_come_back_is_given_up_when_patience_is_over(superlink, clock):
    superlink.failures = [("activate", httpx.ConnectError("refused"))] * 100
    with pytest.raises(HierfedError, match="the server at here:1 cannot be reached: refused"):
        Replies(until=1).serve(patience=30.0)
    assert 130 < clock[0] <= 130 + 2 * fleet.RETRY_SECONDS


def test_the_time_of_an_answer_is_not_the_servers_silence(superlink, clock):
    def compute(_: Request) -> None:
        clock[0] += 500

    superlink.failures = [("push", httpx.ReadError("reset"))]
    superlink.ask(numbered("round", 1))
    superlink.ask(numbered("round", 2))
    node = Replies(until=2, work=compute)
    node.serve(patience=30.0)
    assert len(node.heard) == 2
    assert len(superlink.replies) == 1
    assert len(node.told) == 1


def test_a_server_that_is_killed_while_it_answers_is_met_again(superlink, clock):
    """Without TLS this looks as a server with TLS does, but for what it has said before."""

    def compute(_: Request) -> None:
        clock[0] += 1

    superlink.failures = [("push", httpx.RemoteProtocolError("Server disconnected without sending a response."))]
    superlink.ask(numbered("round", 1))
    superlink.ask(numbered("round", 2))
    node = Replies(until=2, work=compute)
    node.serve()
    assert len(superlink.replies) == 1
    (told,) = node.told
    assert "cannot be reached: Server disconnected" in told


def test_a_kind_that_no_node_knows_is_an_error(superlink, clock):
    superlink.ask(numbered("confess", 1))
    node = Replies(until=1)
    with pytest.raises(ValueError, match="confess"):
        node.serve()
    assert node.heard == []
    (reply,) = superlink.replies
    assert reply.has_error()
