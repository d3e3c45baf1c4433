"""Messages as Flower carries them, without Flower's server, and a federation in memory."""

from __future__ import annotations

import pytest
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from tests.engines.flower.world import Wire, World


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


@pytest.fixture
def lobby(wire: Wire) -> World:
    """A world before anyone has come."""
    return World(wire)


@pytest.fixture
def world(lobby: World) -> World:
    """A world with three members."""
    lobby.begin()
    return lobby
