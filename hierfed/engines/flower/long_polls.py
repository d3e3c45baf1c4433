"""Long polls: a request for what is not there yet is answered once it is, in place of being asked again and again.

Flower's nodes and its server ask the SuperLink for messages, and for the objects of messages, several times a second.
Each call costs it about ten milliseconds, and an object that comes a moment later costs whoever asked a second.

Source: RFC 6202, https://www.rfc-editor.org/rfc/rfc6202, section 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse

Scope = MutableMapping[str, Any]
Sent = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Sent]]
Send = Callable[[Sent], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Seconds for which a request is held. A node that asks for messages learns at least so often that the server is there.
MESSAGES, OBJECTS = 1.0, 5.0
# Seconds in which pushes that follow each other closely are taken as one.
TOGETHER = 0.02


def _no_messages(body: bytes) -> bool:
    return not PullMessagesResponse.FromString(body).messages_list


def _no_replies(body: bytes) -> bool:
    return not PullAppMessagesResponse.FromString(body).messages_list


def _no_object_yet(body: bytes) -> bool:
    found = PullObjectResponse.FromString(body)
    return found.object_found and not found.object_available


# By the path that asks: whether an answer is in vain, seconds to hold it, the beginning of the paths that change it.
HELD: Mapping[str, tuple[Callable[[bytes], bool], float, str]] = {
    "/v1/fleet/pull-messages": (_no_messages, MESSAGES, "/v1/runtime/push-"),
    "/v1/fleet/pull-object": (_no_object_yet, OBJECTS, "/v1/runtime/push-"),
    "/v1/runtime/pull-messages": (_no_replies, MESSAGES, "/v1/fleet/push-"),
    "/v1/runtime/pull-object": (_no_object_yet, OBJECTS, "/v1/fleet/push-"),
}


class LongPolls:
    """An ASGI application around Flower's; see this module."""

    def __init__(self, app: App):
        self._app = app
        self._pushed: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        path = str(scope.get("path", ""))
        if path in HELD:
            await self._hold(path, scope, receive, send)
            return
        await self._app(scope, receive, send)
        for begin in [each for each in self._pushed if path.startswith(each)]:
            self._pushed.pop(begin).set()

    async def _hold(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        in_vain, seconds, begin = HELD[path]
        asked = await self._whole(receive)
        end = asyncio.get_running_loop().time() + seconds
        while True:
            pushed = self._pushed.setdefault(begin, asyncio.Event())
            answer: list[Sent] = []

            async def keep(message: Sent, answer: list[Sent] = answer) -> None:
                answer.append(message)

            await self._app(dict(scope), _again(asked, receive), keep)
            left = end - asyncio.get_running_loop().time()
            body = b"".join(message.get("body", b"") for message in answer)
            if left <= 0 or answer[0].get("status") != 200 or not in_vain(body):
                break
            try:
                await asyncio.wait_for(pushed.wait(), left)
            except TimeoutError:
                break
            await asyncio.sleep(TOGETHER)
        for message in answer:
            await send(message)

    @staticmethod
    async def _whole(receive: Receive) -> list[Sent]:
        """All messages of a request."""
        asked = [await receive()]
        while asked[-1].get("more_body"):
            asked.append(await receive())
        return asked


def _again(asked: list[Sent], receive: Receive) -> Receive:
    """A request's messages once more; after them, whatever comes."""
    left = list(asked)

    async def next_one() -> Sent:
        return dict(left.pop(0)) if left else await receive()

    return next_one
