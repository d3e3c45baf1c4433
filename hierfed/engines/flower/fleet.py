"""A node's connection to a SuperLink: it pulls messages, lets the node's own ClientApp answer, and pushes the replies.

Flower's own SuperNode starts a process for every message, and runs the server's code in it. Here the code is always the
installed package's, and the rows stay in memory from one message to the next.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from hierfed.engines.exchange import REFUSAL, Reply, Request
from hierfed.engines.flower.records import read_request, reply_records
from hierfed.engines.secure_round import STEPS
from hierfed.errors import HierfedError, reason_of
from hierfed.plain_text import printable

# The number that the operating system gives its errors, which tells a reader nothing.
ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# A connection that ends without an answer: closed, or reset where the server has not read all that was sent.
ENDED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
# The shortest that Flower allows: a node that is silent for twice as long counts as gone.
HEARTBEAT_SECONDS = 10.0
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 1.0
RETRY_SECONDS = 3.0
# Flower's codes in an answer to a node that asks to join.
NO_ACTIVATION, KEYS_WANTED = '"code":2004', '"code":2001'
KINDS = ("hello", "setup", "round", *STEPS, "finish", "judge", "ledger", "goodbye")


@dataclass(frozen=True)
class ServerAddress:
    """The server's address, and the proof that it is the right server.

    ca: the file with the authority that signed its certificate; None without TLS.
    patience: seconds for which a node tries again while it cannot reach the server, or is not admitted.
    """

    address: str
    ca: Path | None = None
    patience: float = 120.0


@dataclass
class Traffic:
    """The node's message contents in bytes, and the time of its last contact.

    sent, received: bytes.
    last_contact: the time of the server's last answer, by time.monotonic.
    """

    sent: int = 0
    received: int = 0
    last_contact: float = 0.0


def client_app(answer: Callable[[Request], Reply]) -> ClientApp:
    """Flower's ClientApp in which `answer` answers every kind of request; a message that is none is refused."""
    app = ClientApp()

    def handle(message: Message, _: Context) -> Message:
        try:
            request = read_request(message)
        except ValueError as error:
            refusal = Reply({REFUSAL: f"the server's message cannot be read: {printable(error)}"})
            return Message(reply_records(refusal), reply_to=message)
        return Message(reply_records(answer(request)), reply_to=message)

    for kind in KINDS:
        app.query(kind)(handle)
    return app


def serve(
    where: ServerAddress,
    key: ec.EllipticCurvePrivateKey | None,
    app: ClientApp,
    done: Callable[[], bool],
    tell: Callable[[str], None],
    contact: Callable[[], None] = lambda: None,
) -> Traffic:
    """Answer the server's messages until `done`.

    key: the node's; None where the server asks for none.
    tell: takes the reason for which the node tries again, once in a row.
    contact: called whenever the server has been reached.
    The node connects again to a server that restarts. Raises HierfedError in one line for a server that stays
    unreachable for too long, is not the right one, or refuses the node.
    """
    private, public = generate_key_pairs() if key is None else (key, key.public_key())
    began, last_reason = time.monotonic(), ""
    traffic = Traffic(last_contact=began)

    def met() -> None:
        nonlocal last_reason
        last_reason = ""
        contact()

    while not done():
        try:
            with _connected(where, private, public, register=key is None) as (client, node):
                _answer_all(client, node, app, done, traffic, met)
        except httpx.HTTPError as error:
            final, reason = _explain(where, error, met=traffic.last_contact > began)
            if final or time.monotonic() - traffic.last_contact > where.patience:
                raise HierfedError(reason) from error
            if reason != last_reason:
                tell(f"{reason}; trying again for up to {where.patience:g} s")
                last_reason = reason
            time.sleep(RETRY_SECONDS)
    return traffic


def _answer_all(
    client: FleetHttpClient,
    node: Node,
    app: ClientApp,
    done: Callable[[], bool],
    traffic: Traffic,
    contact: Callable[[], None],
) -> None:
    wait = SHORTEST_WAIT
    while not done():
        asked = time.monotonic()
        message = _pull(client, node, traffic)
        traffic.last_contact = time.monotonic()
        contact()
        if message is None:
            # A server that holds requests has made the node wait already.
            time.sleep(max(0.0, wait - (traffic.last_contact - asked)))
            wait = min(1.5 * wait, LONGEST_WAIT)
            continue
        wait = SHORTEST_WAIT
        try:
            reply = app(message, Context(message.metadata.run_id, node.node_id, {}, RecordDict(), {}))
        except Exception as error:
            # The error's text may disclose the node's own rows, so the server gets the kind of error alone.
            reason = f"{type(error).__name__} on the node, which says more"
            _push(
                client, node, Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message), traffic
            )
            raise
        # The node did not listen while it computed, so this time does not count as the server's silence.
        traffic.last_contact = time.monotonic()
        _push(client, node, reply, traffic)


@contextmanager
def _connected(
    where: ServerAddress, private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey, register: bool
) -> Iterator[tuple[FleetHttpClient, Node]]:
    name = public_key_to_bytes(public)
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, public),
    ]
    root = None if where.ca is None else str(where.ca)
    try:
        made = FleetHttpClient.from_server_address(where.address, where.ca is None, root, interceptors)
    except OSError as error:
        reason = reason_of(error)
        raise HierfedError(f"--ca {where.ca}: cannot be used as a certificate authority: {reason}") from error
    with made as client:
        if register:
            client.RegisterNode(RegisterNodeFleetRequest(public_key=name))
        request = ActivateNodeRequest(public_key=name, heartbeat_interval=HEARTBEAT_SECONDS)
        node = Node(node_id=client.ActivateNode(request).node_id)
        gone = threading.Event()
        threading.Thread(target=_beat, args=(client, node, gone), daemon=True).start()
        try:
            yield client, node
        finally:
            gone.set()
            _leave(client, node, register)


def _leave(client: FleetHttpClient, node: Node, registered: bool) -> None:
    # A server that cannot be reached forgets the node by itself once it is silent.
    with suppress(httpx.HTTPError):
        client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
        if registered:
            client.UnregisterNode(UnregisterNodeFleetRequest(node_id=node.node_id))


def _beat(client: FleetHttpClient, node: Node, gone: threading.Event) -> None:
    """Send heartbeats until the node is gone; one may fail, since the next one follows."""
    request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_SECONDS)
    while not gone.wait(HEARTBEAT_SECONDS / 2):
        with suppress(httpx.HTTPError):
            client.SendNodeHeartbeat(request)


def _pull(client: FleetHttpClient, node: Node, traffic: Traffic) -> Message | None:
    found = client.PullMessages(PullMessagesRequest(node=node))
    if not found.messages_list:
        return None
    run, tree = message_from_proto(found.messages_list[0]).metadata.run_id, found.message_object_trees[0]
    pull = make_pull_object_fn_protobuf(client.PullObject, node, run)
    # Flower pulls and pushes in threads: they can safely append to a list, but not add to a number.
    sizes: list[int] = []

    def counted(object_id: str) -> bytes:
        content = pull(object_id)
        sizes.append(len(content))
        return content

    confirm = make_confirm_message_received_fn_protobuf(client.ConfirmMessageReceived, node, run)
    message = pull_and_inflate_object_from_tree(tree, counted, confirm, return_type=Message)
    traffic.received += sum(sizes)
    message.metadata.__dict__["_message_id"] = tree.object_id
    return message


def _push(client: FleetHttpClient, node: Node, reply: Message, traffic: Traffic) -> None:
    reply.metadata.__dict__["_message_id"] = reply.object_id
    with no_object_id_recompute():
        envelope = message_to_proto(remove_content_from_message(reply))
        answer = client.PushMessages(
            PushMessagesRequest(
                node=node,
                messages_list=[envelope],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[0.0],
            )
        )
        push = make_push_object_fn_protobuf(client.PushObject, node, reply.metadata.run_id, answer.session_id)
        sizes: list[int] = []

        def counted(object_id: str, content: bytes) -> None:
            sizes.append(len(content))
            push(object_id, content)

        wanted = set(answer.objects_to_push)
        push_objects(get_all_nested_objects(reply), counted, object_ids_to_push=wanted)
        traffic.sent += sum(sizes)


def _explain(where: ServerAddress, error: httpx.HTTPError, met: bool) -> tuple[bool, str]:
    """True if trying again is of no use, and the error in words for the user.

    met: True if the server has answered before, so that it does not speak TLS where the node does not.
    """
    at, text = f"the server at {where.address}", str(error).casefold()
    speaks_tls = f"{at} speaks TLS: give --ca with the authority that signed it"
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        final, reason = False, f"{at} answers {status}: {error.response.text.strip() or error}"
        if NO_ACTIVATION in error.response.text:
            reason = (
                f"{at} lets no node in with this key: it is unknown there (--allow-key), or was in use a moment ago"
            )
        elif KEYS_WANTED in error.response.text:
            final, reason = (
                True,
                f"{at} lets in nodes with known keys alone: make one with `hierfed keys new`, give --key",
            )
        elif status == httpx.codes.BAD_REQUEST and where.ca is None and not met:
            final, reason = True, speaks_tls
    elif "certificate" in text:
        final, reason = (
            True,
            f"{at} is not who it should be: {_certificate(error)}; --ca {where.ca} must have signed it",
        )
    elif "wrong_version_number" in text or "record layer failure" in text:
        final, reason = True, f"{at} does not speak TLS: it was started with --insecure, and so must the node be"
    elif isinstance(error, ENDED) and where.ca is None and not met:
        # A proxy ends connections in the same way while the server behind it is not up.
        final, reason = False, f"{speaks_tls}; or it is not up yet"
    else:
        final, reason = False, f"{at} cannot be reached: {ERRNO.sub('', str(error)) or type(error).__name__}"
    return final, reason


def _certificate(error: httpx.HTTPError) -> str:
    _, _, reason = str(error).partition("certificate verify failed: ")
    return reason.split(" (_ssl")[0] or str(error)
