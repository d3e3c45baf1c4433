"""Flower's server, the SuperLink, as a child of this process, and the one run in it, which this process conducts.

The SuperLink only carries messages. This process writes and reads them: it takes the place of the ServerApp process
that Flower would start. So no code travels: the app that Flower asks for is empty.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

from hierfed.atomic import write_atomically
from hierfed.engines.flower.guard import LIMIT_FILE, SECRET_FILE, STRANGERS_FILE, header_of
from hierfed.engines.flower.surroundings import LOG, surroundings
from hierfed.errors import HierfedError, reason_of
from hierfed.leash import start_leashed, stop_leashed
from hierfed.plain_text import printable

STARTS_WITHIN, ARRIVES_WITHIN, LOOKS_EVERY = 60.0, 60.0, 0.5
# The file with the bytes that a node may send in a minute; see the guard.
LIMIT = "limit"
# The file with the nodes that Flower did not let in; see the guard.
STRANGERS = "strangers.jsonl"
SUPERLINK = "hierfed.engines.flower.guard:superlink"
# Flower asks for an app; nothing runs this one, so it is empty.
EMPTY_APP = {
    "pyproject.toml": b"""[project]
name = "hierfed-app"
version = "1.0.0"
description = ""
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "hierfed"

[tool.flwr.app.components]
serverapp = "nothing:app"
clientapp = "nothing:app"
""",
    "nothing.py": b"app = None\n",
}


@dataclass(frozen=True)
class Certificates:
    """Files with a server's certificate, its private key, and the authority that signed it."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Listening:
    """The server's address, and the nodes that it admits.

    tls: its certificate; None without TLS.
    keys: the files of the nodes' public keys; None admits every node.
    """

    host: str
    port: int
    tls: Certificates | None
    keys: tuple[Path, ...] | None

    @property
    def own_address(self) -> str:
        """The server's address for this machine itself."""
        host = "localhost" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@contextmanager
def superlink(listening: Listening, home: Path) -> Iterator[HttpGrid]:
    """A running SuperLink, as the grid of the one run in it.

    home: a folder for Flower's files.
    Stops the SuperLink at the end. Raises HierfedError in one line where it cannot start.
    """
    _check_free(listening)
    (home / LIMIT).unlink(missing_ok=True)
    (home / STRANGERS).unlink(missing_ok=True)
    secret = home / "secret"
    secret.touch(mode=0o600)
    secret.write_bytes(secrets.token_bytes(48))
    with (home / LOG).open("ab") as log:
        files = {SECRET_FILE: secret, LIMIT_FILE: home / LIMIT, STRANGERS_FILE: home / STRANGERS}
        environment = {**surroundings(home), **{name: str(path) for name, path in files.items()}}
        child = start_leashed(SUPERLINK, _arguments(listening, secret), log, environment)
    try:
        _wait_until_up(listening, child, home)
        _register(listening, secret)
        yield from _run(listening, secret)
    finally:
        stop_leashed(child)


def _arguments(listening: Listening, secret: Path) -> list[str]:
    arguments = ["--host", listening.host, "--port", str(listening.port), "--isolation", "process"]
    arguments += ["--superexec-auth-secret-file", str(secret), "--disable-runtime-dependency-installation"]
    if listening.tls is None:
        return [*arguments, "--insecure"]
    tls = listening.tls
    arguments += ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key), "--ssl-ca-certfile"]
    arguments += [str(tls.ca)]
    return arguments if listening.keys is None else [*arguments, "--enable-supernode-auth"]


def _check_free(listening: Listening) -> None:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listening.host, listening.port))
        except OSError as error:
            raise HierfedError(
                f"cannot listen at {listening.host}:{listening.port}: {reason_of(error)}; choose another --listen"
            ) from error


def _wait_until_up(listening: Listening, child: subprocess.Popen[bytes], home: Path) -> None:
    scheme, verify = ("http", True) if listening.tls is None else ("https", str(listening.tls.ca))
    end = time.monotonic() + STARTS_WITHIN
    with _tls_errors(listening), httpx.Client(verify=verify) as client:
        while child.poll() is None and time.monotonic() < end:
            try:
                client.get(f"{scheme}://{listening.own_address}/health")
                return
            except httpx.ConnectError as error:
                if "certificate" in str(error).casefold():
                    raise
                time.sleep(0.1)
    raise HierfedError(f"the server did not start; Flower's own account of it is in {home / LOG}")


@contextmanager
def _tls_errors(listening: Listening) -> Iterator[None]:
    tls = listening.tls
    try:
        yield
    except (httpx.ConnectError, OSError) as error:
        if tls is None:
            raise
        raise HierfedError(
            f"{tls.certificate}: not a certificate for {listening.own_address.rpartition(':')[0]} that {tls.ca} signed "
            f"({reason_of(error)}); --listen needs a name that the certificate is for"
        ) from error


def _clients(listening: Listening) -> tuple[str, bool, bytes | None]:
    """Address, True without TLS, and the authority's certificate: the arguments of Flower's clients."""
    tls = listening.tls
    return listening.own_address, tls is None, None if tls is None else tls.ca.read_bytes()


def _control(listening: Listening, secret: Path) -> ControlHttpClient:
    version = RuntimeVersionHttpInterceptor(component_name="flwr CLI")
    return _own(ControlHttpClient.from_server_address(*_clients(listening), interceptors=[version]), secret)


Client = TypeVar("Client", bound=ProtobufClient)


def _own(client: Client, secret: Path) -> Client:
    """The same client, whose calls pass the guard."""
    client._client.headers.update(header_of(secret.read_bytes()))
    return client


def _register(listening: Listening, secret: Path) -> None:
    """Admit the nodes with these keys."""
    with _control(listening, secret) as control:
        for path in listening.keys or ():
            try:
                public = public_key_to_bytes(load_ssh_public_key(path.read_bytes()))  # type: ignore[arg-type]
            except (OSError, ValueError, AttributeError) as error:
                raise HierfedError(
                    f"--allow-key {path}: no public key of a node ({reason_of(error)}); `hierfed keys new` makes one"
                ) from error
            control.RegisterNode(RegisterNodeRequest(public_key=public, name=path.stem))


def _run(listening: Listening, secret: Path) -> Iterator[HttpGrid]:
    """Start the one run, take it, and give its grid."""
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415 - for servers alone, and it takes half a second

    app, _ = build_fab_from_files(EMPTY_APP)
    address, insecure, ca = _clients(listening)
    with _control(listening, secret) as control:
        control.StartRun(StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(app).hexdigest(), app, {}))))
    signed = SuperExecAuthHttpInterceptor(
        master_secret=secret.read_bytes(), protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    client = RuntimeHttpClient.from_server_address(address, insecure, ca, interceptors=[version, signed])
    with _own(client, secret) as runtime:
        taken = runtime.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
    grid = HttpGrid(address, insecure, ca, token=taken.token)
    runtime_client = _own(grid._runtime_client, secret)
    runtime_client.PullObject = _impatient(runtime_client.PullObject)  # type: ignore[method-assign]
    beats = HeartbeatSender(make_task_heartbeat_fn_http(grid._runtime_client))
    beats.start()
    try:
        given = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        grid.set_run(run_from_proto(given.run))
        yield grid
    finally:
        beats.stop()
        grid.close()


def wait_for_nodes(grid: HttpGrid, count: int, look: Callable[[], None]) -> None:
    """Wait until so many nodes are connected, greeted or not. look: called meanwhile; an exception ends the wait."""
    while sum(1 for _ in grid.get_nodes()) < count:
        look()
        time.sleep(LOOKS_EVERY)


def raise_limit(home: Path, contribution: int) -> None:
    """Let a node send so much in a minute as a contribution of so many bytes in each second takes, and its masks.

    A limit that is higher already stays.
    """
    path, limit = home / LIMIT, 60 * 4 * contribution
    if not path.exists() or int(path.read_text(encoding="ascii")) < limit:
        write_atomically(path, str(limit).encode())


@dataclass(frozen=True)
class Stranger:
    """A node that Flower did not let in. key: in OpenSSH's format; "" for none, or for one that cannot be read."""

    host: str
    key: str


def new_strangers(home: Path, known: int) -> list[Stranger]:
    """Those that were noted since `known` of them were; each is noted once."""
    path = home / STRANGERS
    if not path.is_file():
        return []
    noted = [
        json.loads(line)
        for line in path.read_text(encoding="ascii").splitlines(keepends=True)[known:]
        if line[-1:] == "\n"
    ]
    return [Stranger(printable(each["host"]), _key_of(each["key"])) for each in noted]


def _key_of(header: str) -> str:
    try:
        key = load_pem_public_key(base64.b64decode(header, validate=True))
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except (ValueError, UnsupportedAlgorithm):
        return ""


def _impatient(pull: Callable[[PullObjectRequest], PullObjectResponse]) -> Callable[..., PullObjectResponse]:
    """The same function, but an object that has been on its way for too long does not exist.

    Flower waits for minutes for an object from a node that died, and answers nobody meanwhile.
    """
    since: dict[str, float] = {}

    def pulled(request: PullObjectRequest) -> PullObjectResponse:
        response = pull(request)
        if response.object_found and not response.object_available:
            began = since.setdefault(request.object_id, time.monotonic())
            if time.monotonic() - began > ARRIVES_WITHIN:
                return PullObjectResponse(object_found=False)
        return response

    return pulled
