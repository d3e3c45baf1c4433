"""Messages that grow or are too long, and calls that are not open to strangers: refused before they cost anything."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from safetensors.torch import save

from hierfed.engines.exchange import Member
from hierfed.engines.flower.guard import BESIDES, LEAST_OF_A_REQUEST, MOST_OF_A_REQUEST, Guard, header_of
from hierfed.engines.flower.strategy import read_answer
from hierfed.engines.flower.superlink import raise_limit
from tests.attacks.calls import routes

SECRET = b"secret"


@pytest.fixture(autouse=True)
def run_of_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are made in a run."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def message_of(data: bytes) -> Message:
    return Message(RecordDict({"facts": ConfigRecord({"name": "x", "arrays": data})}), 3, "query.round")


good = save({"sum": torch.arange(3).double()}, {"order": '["sum"]'})
squeezed = io.BytesIO()
np.savez_compressed(squeezed, a=np.zeros(10_000))


@pytest.mark.parametrize(
    "data",
    [
        squeezed.getvalue(),
        good[:-1],
        good + b"\0",
        good.replace(b"[3]", b"[9]"),
        good.replace(b"F64", b"C64"),
        good.replace(b"[0,24]", b"[0,99]"),
        good[:8],
        b"\xff" * 8 + good[8:],
        gzip.compress(good),
    ],
)
def test_arrays_that_are_none_are_refused_before_memory_is_taken_for_them(data):
    answer = read_answer(message_of(data), Member("a", 0))
    assert answer.reply is None
    assert "its arrays cannot be read" in answer.error
    assert len(answer.error) < 400


@pytest.mark.parametrize("facts", [{"refusal": "z" * 5000}, {"x" * 200: 1}, {f"f{place}": 1 for place in range(60)}])
def test_facts_that_are_too_long_or_too_many_are_refused(facts):
    answer = read_answer(Message(RecordDict({"facts": ConfigRecord(facts)}), 3, "query.hello"), Member("a", 0))
    assert answer.reply is None
    assert "too long" in answer.error or "60 facts" in answer.error


class Calls:
    """The application behind the guard, which notes what comes through."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        message = await receive()
        self.bodies.append(len(message.get("body", b"")) if message["type"] == "http.request" else -1)
        await send({"type": "http.response.start", "status": 200, "headers": []})


def call(guard: Guard, path: str, headers: Mapping[str, str] | None = None, body: int = 0, client: str = "a") -> int:
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": bytes(body)}

    async def send(message: Any) -> None:
        told.append(message)

    all_headers = {"content-length": str(body), **(headers or {})}
    scope = {
        "type": "http",
        "path": path,
        "client": (client, 1),
        "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
    }
    asyncio.run(guard(scope, receive, send))
    return int(told[0]["status"])


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def guard(calls: Calls, tmp_path: Path) -> Guard:
    return Guard(calls, SECRET, tmp_path / "limit", clock=lambda: 0.0)


def is_open(path: str) -> bool:
    """True for nodes' calls, which Flower checks by their keys."""
    return path.startswith("/v1/fleet/") or path == "/health"


def test_a_stranger_calls_nothing_but_the_fleet(guard, calls):
    known = [path for path in routes() if "control" in path]
    assert len(known) > 30
    for path in [
        *(path for path in routes() if not is_open(path)),
        "/",
        "/docs",
        "/openapi.json",
        "/v1/fleet/../control/stop-run",
        "//v1/fleet/x",
        "/v1/fleet",
    ]:
        assert call(guard, path) == 403, path
        assert call(guard, path, header_of(b"another")) == 403, path
    assert calls.paths == []
    assert call(guard, known[0], header_of(SECRET)) == 200
    assert call(guard, "/v1/fleet/pull-messages") == 200
    assert calls.paths == [known[0], "/v1/fleet/pull-messages"]


def test_a_node_sends_requests_of_bounded_size_and_so_many_in_a_minute(guard, calls, tmp_path):
    push, key = "/v1/fleet/push-object", {"flwr-public-key": "node 1"}
    assert call(guard, push, key | {"content-length": str(MOST_OF_A_REQUEST + 1)}) == 413
    assert call(guard, push, key | {"content-length": "many"}) == 413
    assert call(guard, push, key | {"content-encoding": "gzip"}) == 413
    assert call(guard, push, {"content-length": "1"}, 0) == 200
    # More than was announced is cut off.
    call(guard, push, key | {"content-length": "9"}, body=MOST_OF_A_REQUEST + 1)
    assert calls.bodies[-1] == -1
    step = {**key, "content-length": str(MOST_OF_A_REQUEST)}
    allowed = BESIDES // MOST_OF_A_REQUEST
    statuses = [call(guard, push, step) for _ in range(allowed + 1)]
    assert statuses[:-2] == [200] * (allowed - 1)
    assert statuses[-1] == 413
    # Another node, the same key from elsewhere, and the next minute are not affected.
    assert call(guard, push, step | {"flwr-public-key": "node 2"}) == 200
    assert call(guard, push, step, client="b") == 200
    raise_limit(tmp_path, 2 * MOST_OF_A_REQUEST // 240)
    raise_limit(tmp_path, 0)
    assert [call(guard, push, step) for _ in range(3)] == [200, 200, 413]
    guard.clock = lambda: 61.0
    assert call(guard, push, step) == 200


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/v1/fleet/send-node-heartbeat"])
def test_calls_without_content_have_a_rate_too(guard, calls, path, monkeypatch):
    monkeypatch.setattr("hierfed.engines.flower.guard.BESIDES", 10 * LEAST_OF_A_REQUEST)
    key = {"flwr-public-key": "node 1"}
    assert [call(guard, path, key) for _ in range(12)] == [200] * 10 + [413] * 2
    assert len(calls.paths) == 10
    assert call(guard, path, {"flwr-public-key": "node 2"}) == 200
    assert call(guard, path, header_of(SECRET)) == 200
    guard.clock = lambda: 61.0
    assert call(guard, path, key) == 200


def test_who_is_not_let_in_is_noted_once_and_no_more_than_a_bound(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ec
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    from hierfed.deployment.signing import public_text
    from hierfed.engines.flower.guard import MOST_STRANGERS
    from hierfed.engines.flower.superlink import STRANGERS, Stranger, new_strangers

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 400, "headers": []})

    guard = Guard(refuses, SECRET, tmp_path / "limit", strangers=tmp_path / STRANGERS)
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    header = {"flwr-public-key": base64.b64encode(public_key_to_bytes(public)).decode()}
    for _ in range(2):
        call(guard, "/v1/fleet/activate-node", header, client="10.0.0.7")
        call(guard, "/v1/fleet/register-node", client="10.0.0.8")
        call(guard, "/v1/fleet/pull-messages", header, client="10.0.0.9")
    assert new_strangers(tmp_path, 0) == [Stranger("10.0.0.7", public_text(public)), Stranger("10.0.0.8", "")]
    assert new_strangers(tmp_path, 2) == []
    for number in range(2 * MOST_STRANGERS):
        call(guard, "/v1/fleet/activate-node", {"flwr-public-key": f"{number}"}, client="10.0.0.7")
    assert len(new_strangers(tmp_path, 0)) == MOST_STRANGERS
