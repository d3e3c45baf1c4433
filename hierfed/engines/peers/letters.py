"""Letters between peers: what has come, and the wait for what is to come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hierfed.engines.exchange import Request

MASS, STATEMENT, REGROUP, HEARD, HISTORY = "mass", "statement", "regroup", "heard", "history"

Slot = tuple[str, int, int, int, int]
"""A letter's place: its kind, the ledger's position, the view, its number, and the sender."""

LOOK_SECONDS = 0.5


class Post(Protocol):
    """Brings letters to other peers, whose numbers are those of the plan."""

    def send(self, peer: int, letter: Request) -> bool:
        """False where the letter did not arrive, or nothing says that it did."""
        ...

    def reaches(self, peer: int) -> bool:
        """False where the peer does not answer."""
        ...


@dataclass(frozen=True)
class Waiting:
    """The limits of waiting, in seconds.

    patience: for a peer that cannot be reached. deadline: for one that can, and says nothing.
    """

    patience: float = 30.0
    deadline: float = 600.0


class Inbox:
    """Letters of other peers, each in its slot until it is taken; the first one of a slot stays."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._letters: dict[Slot, Request] = {}

    def put(self, sender: int, letter: Request) -> None:
        """Keep a letter; raises ValueError for one that says not where it belongs."""
        try:
            place = (int(letter.facts[name]) for name in ("position", "view", "number"))
            position, view, number = place
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("a letter that does not say where it belongs") from error
        with self._changed:
            self._letters.setdefault((letter.kind, position, view, number, sender), letter)
            self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until this is so, or so long; gives whether it is so."""
        with self._changed:
            return self._changed.wait_for(ready, seconds)

    def find(self, slot: Slot) -> Request | None:
        """The letter of this slot; None without one."""
        return self._letters.get(slot)

    def first(self, kind: str, position: int, view: int, number: int, sender: int) -> Request | None:
        """The letter with this number or the next one above; None without one."""
        found = [slot for slot in list(self._letters) if slot[:3] == (kind, position, view) and slot[4] == sender]
        later = [slot for slot in found if slot[3] >= number]
        return self._letters[min(later)] if later else None

    def newest_view(self) -> int:
        """The last view that any peer has called for; 0 without one."""
        return max((slot[2] for slot in list(self._letters) if slot[0] == REGROUP), default=0)

    def forget(self, position: int) -> None:
        """Drop what belongs to rounds before this position."""
        with self._changed:
            gone = [slot for slot in self._letters if slot[1] < position and slot[0] in (MASS, STATEMENT)]
            for slot in gone:
                del self._letters[slot]
