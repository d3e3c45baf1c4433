"""Messages as Flower carries them, without Flower's server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

Wire = Callable[[Message], Message]


@pytest.fixture(autouse=True)
def task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower takes the sender of a message from the process's task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="session")
def wire() -> Wire:
    """The message that arrives: made of the bytes of the one that was sent."""

    def carry(message: Message) -> Message:
        contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
        arrived = inflate_object_from_contents(message.object_id, contents)
        assert isinstance(arrived, Message)
        arrived.metadata.__dict__["_message_id"] = message.metadata.message_id
        return arrived

    return carry
