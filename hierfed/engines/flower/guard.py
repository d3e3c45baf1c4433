"""Flower's SuperLink behind a guard: the public port carries the fleet's interface alone, in messages of bounded size.

Flower answers everything on one port: nodes, the calls that start and stop runs, and those of the server's own process.
A stranger who can reach the port needs no key for the latter two. The guard takes them only with the server's secret,
which lies in a file of its own and travels in a header.

Source: the ASGI specification, https://asgi.readthedocs.io.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = "x-hierfed-server"
# In which Flower's nodes name their key.
KEY_HEADER = b"flwr-public-key"
# The environment of the SuperLink's process: the files with the secret, with the bytes that a node may send, and with
# the nodes that Flower did not let in.
SECRET_FILE, LIMIT_FILE = "HIERFED_SUPERLINK_SECRET", "HIERFED_SUPERLINK_LIMIT"
STRANGERS_FILE = "HIERFED_SUPERLINK_STRANGERS"
FLEET, HEALTH = "/v1/fleet/", "/health"
JOINING = (f"{FLEET}activate-node", f"{FLEET}register-node")
# Most strangers that are noted, each once, and the longest key of one.
MOST_STRANGERS, LONGEST_KEY = 100, 2000
# Flower cuts arrays into pieces of 5 MiB; nothing else in a request is as large.
MOST_OF_A_REQUEST = 8 << 20
# A node may send so many bytes a minute beside the limit that the server sets.
BESIDES = 256 << 20
# A call without content counts as so many bytes: 16,384 calls a minute, more than Flower can answer a single node.
LEAST_OF_A_REQUEST = 16 << 10
MINUTE = 60.0
# Most nodes whose traffic is counted; the oldest counts go first.
MOST_COUNTED = 4096


def header_of(secret: bytes) -> dict[str, str]:
    """The header with which the server's own calls pass the guard."""
    return {HEADER: hashlib.sha256(b"hierfed superlink " + secret).hexdigest()}


@dataclass
class Guard:
    """An ASGI application around another; see this module.

    secret: see header_of.
    limit: the file with the bytes that a node may send in a minute for its sums; it may not be there.
    strangers: the file that takes the nodes that Flower does not let in, a line each; None for none.
    """

    app: App
    secret: bytes
    limit: Path
    clock: Callable[[], float] = time.monotonic
    strangers: Path | None = None
    _noted: set[tuple[str, str]] = field(default_factory=set)
    _sent: dict[bytes, tuple[float, int]] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers: Mapping[bytes, bytes] = dict(scope.get("headers", ()))
        if scope["type"] != "http" or not self._may(str(scope["path"]), headers):
            await self._refuse(send, 403, b"not open to others than the server itself")
            return
        own = self._own(headers)
        if not own and (reason := self._too_much(headers, str(scope.get("client")))):
            await self._refuse(send, 413, reason)
            return
        taken = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_OF_A_REQUEST and not own:
                return {"type": "http.disconnect"}
            return message

        async def watched(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400 and not own:
                self._note(headers, scope.get("client"))
            await send(message)

        await self.app(scope, counted, watched if scope["path"] in JOINING else send)

    def _note(self, headers: Mapping[bytes, bytes], client: Any) -> None:
        """Write down who was not let in, once."""
        key = headers.get(KEY_HEADER, b"")[:LONGEST_KEY].decode("ascii", "replace")
        host = str(client[0]) if client else ""
        if self.strangers is None or (host, key) in self._noted or len(self._noted) >= MOST_STRANGERS:
            return
        self._noted.add((host, key))
        with self.strangers.open("a", encoding="ascii") as lines:
            lines.write(json.dumps({"host": host, "key": key}) + "\n")

    def _own(self, headers: Mapping[bytes, bytes]) -> bool:
        given = headers.get(HEADER.encode(), b"")
        return hmac.compare_digest(given, header_of(self.secret)[HEADER].encode())

    def _may(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """True for the fleet's calls, and for the server's own."""
        # Flower's routes are matched as they are written; a path that could mean another one is none of theirs.
        plain = "//" not in path and ".." not in path and "%" not in path
        return (plain and (path.startswith(FLEET) or path == HEALTH)) or self._own(headers)

    def _too_much(self, headers: Mapping[bytes, bytes], client: str) -> bytes:
        """The reason why a request is too large, or the one too many of its node; empty if it is not."""
        length = headers.get(b"content-length", b"")
        told = bool(length) or b"transfer-encoding" in headers
        if told and (b"content-encoding" in headers or not length.isdigit()):
            return b"of unknown length"
        size = max(int(length or b"0"), LEAST_OF_A_REQUEST)
        if size > MOST_OF_A_REQUEST:
            return b"larger than any message of a federation"
        # A stranger can name a node's key, so the address counts too: nobody uses up what another one may send.
        whose = hashlib.sha256(client.rpartition(",")[0].encode() + headers.get(KEY_HEADER, b"")).digest()
        began, so_far = self._sent.get(whose, (self.clock(), 0))
        if self.clock() - began > MINUTE:
            began, so_far = self.clock(), 0
        if so_far + size > self._most():
            return b"more in a minute than any node of this federation has to send"
        self._sent.pop(whose, None)
        self._sent[whose] = began, so_far + size
        while len(self._sent) > MOST_COUNTED:
            self._sent.pop(next(iter(self._sent)))
        return b""

    def _most(self) -> int:
        return BESIDES + (int(self.limit.read_text(encoding="ascii")) if self.limit.exists() else 0)

    @staticmethod
    async def _refuse(send: Send, status: int, reason: bytes) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(reason)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reason})


def superlink() -> None:
    """Flower's command `flower-superlink`, behind a guard."""
    import flwr.superlink.main as flower  # noqa: PLC0415 - only in the SuperLink's own process
    from flwr.superlink.cli.flower_superlink import flower_superlink  # noqa: PLC0415

    from hierfed.engines.flower.long_polls import LongPolls  # noqa: PLC0415

    secret, limit = Path(os.environ[SECRET_FILE]).read_bytes(), Path(os.environ[LIMIT_FILE])
    create = flower.create_app

    def guarded(*arguments: Any, **options: Any) -> Any:
        return Guard(
            LongPolls(create(*arguments, **options)), secret, limit, strangers=Path(os.environ[STRANGERS_FILE])
        )

    flower.create_app = guarded
    flower_superlink()
