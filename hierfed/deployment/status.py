"""The present work of a server or a node: kept in `status.json` of its folder, for `hierfed status` and monitors.

It names nodes, rounds and reasons. It holds nothing of a rating, an item or a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hierfed.atomic import is_held, write_atomically
from hierfed.errors import HierfedError
from hierfed.sealed import MALFORMED, damaged, read_json, sealed_json

FILE = "status.json"
SERVER_LOCK, NODE_LOCK = ".lock", "lock"
ADVICE = "delete it: it is written anew"
# The refusals that are kept: the last ones.
MOST_REFUSALS = 50
# Seconds between two times of contact that a node writes to disk.
CONTACT_EVERY = 10.0
Phase = Literal["waiting", "training", "finished", "stopped"]


class Member(BaseModel):
    """A node as its server sees it. last_contact: seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    present: bool
    last_contact: float


class Refused(BaseModel):
    """A node, or its answer, that was refused. at: seconds since 1970. round: of the answer, such as "rating 3"."""

    model_config = ConfigDict(extra="forbid")

    at: float
    node: str
    reason: str
    round: str = ""


class Status(BaseModel):
    """The state of a server or a node; times are seconds since 1970, 0 for never.

    stage, round: the last one. rounds: those to come when the training began or went on, the done ones too.
    members, nodes, quorum: of a server; nodes is the number that it begins with.
    refused: the last ones; refusals counts all.
    last_contact: of a node with its server. problem: why it is not well; "" where it is.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["server", "node"]
    name: str
    phase: Phase = "waiting"
    stage: str = ""
    round: int = 0
    done: int = 0
    abandoned: int = 0
    rounds: int = 0
    nodes: int = 0
    quorum: int = 0
    members: dict[str, Member] = {}
    refused: list[Refused] = []
    refusals: int = 0
    last_contact: float = 0.0
    problem: str = ""
    began: float = 0.0
    changed: float = 0.0

    @property
    def present(self) -> list[str]:
        """The names of the nodes that are there."""
        return [name for name, member in self.members.items() if member.present]


def read_status(folder: Path) -> Status:
    """The status in a server's folder or a node's state; a process that has ended no longer waits or trains.

    Raises HierfedError for any other folder, and where the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise HierfedError(f"{folder}: neither a server's folder nor a node's state: no {FILE} is there")
    try:
        status = Status.model_validate(read_json(path, ADVICE, always=True))
    except (ValidationError, *MALFORMED) as error:
        raise damaged(path, "it is no status" if isinstance(error, ValidationError) else error, ADVICE) from error
    lock = folder / (NODE_LOCK if status.kind == "node" else SERVER_LOCK)
    running = status.phase in ("waiting", "training")
    return status.model_copy(update={"phase": "stopped"}) if running and not is_held(lock) else status


class StatusFile:
    """Keeps a status in memory and on disk."""

    def __init__(self, folder: Path, status: Status, clock: Callable[[], float] = time.time):
        self.folder, self.clock = folder, clock
        self.status = status.model_copy(update={"began": clock(), "changed": clock()})
        self._written = 0.0
        self.change()

    def change(self, **values: object) -> None:
        """Take these values, and write them."""
        self._written = self.clock()
        self.status = self.status.model_copy(update={**values, "changed": self._written})
        write_atomically(self.folder / FILE, sealed_json(self.status.model_dump()), 0o600)

    def touch(self, **values: object) -> None:
        """Take these values, and write them with the next change, or if nothing was written for a while."""
        self.status = self.status.model_copy(update=values)
        if self.clock() - self._written >= CONTACT_EVERY:
            self.change()
