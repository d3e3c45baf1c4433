"""Letters between peers: what has come, and the wait for what is to come."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hierfed.engines.exchange import Fact, Request
from hierfed.plain_text import printable

MASS, STATEMENT, REGROUP, HEARD, HISTORY = "mass", "statement", "regroup", "heard", "history"

Slot = tuple[str, int, int, int, int]
"""A letter's place: its kind, the ledger's position, the view, its number, and the sender."""

LOOK_SECONDS = 0.5
PLACE = ("position", "view", "number")
# The other facts that each kind's readers count on: texts, and texts that hold peers' numbers.
TEXTS = {MASS: (), STATEMENT: ("said",), REGROUP: ("line",), HEARD: (), HISTORY: ("line",)}
NUMBERS = {REGROUP: "suspects", HEARD: "heard"}
# A whole number that every reader of JSON has exactly.
MOST = 2**53


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


def peers_in(letter: Request) -> list[int]:
    """The numbers of peers in a letter of the two kinds that hold them; raises ValueError where there are none."""
    found = json.loads(str(letter.facts.get(NUMBERS[letter.kind])))
    if not isinstance(found, list) or not all(_is_count(each) for each in found):
        raise ValueError("no list of peers' numbers")
    return found


def check_letter(letter: Request) -> None:
    """Raise ValueError for a letter of no kind that there is, or without the facts that its readers count on."""
    if letter.kind not in TEXTS:
        raise ValueError(f"a letter of no known kind: {printable(letter.kind, 40)}")
    facts = letter.facts
    counts = (*PLACE, "ends") if letter.kind == REGROUP else PLACE
    whole = all(_is_count(facts.get(name)) for name in counts)
    if not whole or not all(isinstance(facts.get(name), str) for name in TEXTS[letter.kind]):
        raise ValueError(f"a letter of the kind {letter.kind} without its facts")
    if letter.kind in NUMBERS:
        try:
            peers_in(letter)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a letter of the kind {letter.kind} without the peers that it names") from error


def _is_count(value: Fact | None) -> bool:
    # True is an int.
    return type(value) is int and 0 <= value <= MOST


class Inbox:
    """Letters of other peers, each in its slot until it is taken; the first one of a slot stays."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._letters: dict[Slot, Request] = {}

    def put(self, sender: int, letter: Request) -> None:
        """Keep a letter; raises ValueError for one that cannot be read, see check_letter."""
        check_letter(letter)
        position, view, number = (int(letter.facts[name]) for name in PLACE)
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
