"""Requests for what is not there yet are held until it is, and answered in vain only at their end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import Message, PullObjectResponse

from hierfed.engines.flower import long_polls
from hierfed.engines.flower.long_polls import LongPolls

MESSAGES, OBJECT, PUSH = "/v1/fleet/pull-messages", "/v1/fleet/pull-object", "/v1/runtime/push-object"
NONE, ONE = PullMessagesResponse(), PullMessagesResponse(messages_list=[Message()])
MISSING, THERE = (PullObjectResponse(object_found=True, object_available=ready) for ready in (False, True))


class Flower:
    """The application behind: its answers to a path, the last of which stays; it notes what it is asked."""

    def __init__(self, **answers: Iterator[tuple[int, bytes]]):
        self.answers, self.asked = answers, []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        path = scope["path"]
        self.asked.append((path, body))
        answers = self.answers[path.rpartition("/")[2].replace("-", "_")]
        status, content = answers.pop(0) if len(answers) > 1 else answers[0]
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": content})


async def call(app: LongPolls, path: str, pieces: tuple[bytes, ...] = (b"request",)) -> tuple[int, bytes]:
    """The status and the body of the answer to a request that comes in pieces."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": path}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def good(*answers: Any) -> list[tuple[int, bytes]]:
    return [(200, answer.SerializeToString()) for answer in answers]


@pytest.mark.parametrize(
    ("path", "answers"), [(MESSAGES, [NONE, ONE]), (OBJECT, [MISSING, THERE])], ids=["messages", "object"]
)
def test_a_request_is_held_until_something_is_pushed(path, answers):
    flower = Flower(pull_messages=good(*answers), pull_object=good(*answers), push_object=[(200, b"")])
    app = LongPolls(flower)

    async def scene() -> tuple[int, bytes]:
        held = asyncio.create_task(call(app, path, (b"re", b"quest")))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(flower.asked) == 1
        assert not held.done()
        await call(app, PUSH)
        return await held

    assert asyncio.run(scene()) == good(answers[1])[0]
    assert flower.asked == [(path, b"request"), (PUSH, b"request"), (path, b"request")]


@pytest.mark.parametrize("answer", [good(ONE)[0], (403, b"no"), (500, b"")], ids=["something", "refused", "failed"])
def test_other_answers_are_given_at_once(answer):
    flower = Flower(pull_messages=[answer])
    assert asyncio.run(call(LongPolls(flower), MESSAGES)) == answer
    assert len(flower.asked) == 1


def test_nothing_comes_and_the_request_ends(monkeypatch):
    in_vain, _, begin = long_polls.HELD[MESSAGES]
    monkeypatch.setitem(long_polls.HELD, MESSAGES, (in_vain, 0.01, begin))
    flower = Flower(pull_messages=good(NONE))
    assert asyncio.run(call(LongPolls(flower), MESSAGES)) == good(NONE)[0]


def test_a_push_between_the_answer_and_the_wait_is_not_missed():
    """What is pushed while Flower looks for messages counts."""
    flower = Flower(pull_messages=good(NONE, ONE), push_object=[(200, b"")])

    async def pushed_meanwhile(scope: Any, receive: Any, send: Any) -> None:
        await flower(scope, receive, send)
        if scope["path"] == MESSAGES and len(flower.asked) == 1:
            await call(app, PUSH)

    app = LongPolls(pushed_meanwhile)
    assert asyncio.run(call(app, MESSAGES)) == good(ONE)[0]
